"""What the command says before it reaches a service: help, tokens, and what its environment lacks."""

from datetime import UTC, datetime

import jwt
import pytest

from openegress.api.auth import verify
from openegress.cli import main
from openegress.cli.completion import walk
from openegress.cli.parser import GROUPS, build_parser

COMMANDS = list(walk(build_parser()))
VARIABLES = ("LIVEKIT_URL", "LIVEKIT_WS_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENEGRESS_URL")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(name for name, _ in COMMANDS[0].verbs)


def test_every_argument_is_explained() -> None:
    silent = [
        (command.path, argument.names)
        for command in COMMANDS
        for argument in command.arguments
        if not argument.help
    ]
    assert silent == []


def test_help_lists_every_command_and_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert [name for name, about in COMMANDS[0].verbs if f" {name} {about} " not in text] == []
    assert "-h, --help show this help message and exit" in text


def test_a_commands_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "Check this machine and its configuration." in capsys.readouterr().out


SHORT = ("--api-key", "devkey", "--api-secret", "secret")
"""The key of `livekit-server --dev`."""


def test_a_token_opens_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *SHORT, "--valid-for", "12h"]) == 0
    token = capsys.readouterr().out.strip()
    assert verify(f"Bearer {token}", None, {"devkey": "secret"}).room_record
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - datetime.now(UTC).timestamp() == pytest.approx(12 * 3600, abs=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("token",), "no API key: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or --api-key and --api-secret"),
        (("token", *SHORT, "--valid-for", "a day"), '"a day" is not a duration'),
        (("list",), "no API key: set"),
        (
            ("list", *SHORT, "--url", "localhost:7980"),
            '"localhost:7980" is not the address of a server',
        ),
        (("list", *SHORT, "--limit", "-1"), "--limit -1 is less than none"),
        (("record", "room:lobby", "lobby.mp4"), "no LiveKit server: set LIVEKIT_URL, LIVEKIT_API_KEY and"),
        (("record", "room:lobby", "lobby.mp4", *SHORT), "no LiveKit server: set LIVEKIT_URL"),
    ],
)
def test_what_is_missing_is_named(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"openegress: {said}") and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("stop EG_1", ["EG_1"]),
        ("stop --json EG_1 EG_2", ["EG_1", "EG_2"]),
        ("stop --id EG_1 --id EG_2", ["EG_1", "EG_2"]),
        ("pause EG_1", "EG_1"),
        ("pause --id EG_1", "EG_1"),
        ("update-layout EG_1 --layout grid", "EG_1"),
        ("update-stream --id EG_1 --add-urls rtmp://h/a/k", "EG_1"),
    ],
)
def test_an_egress_is_named_as_ours_or_as_in_lk(line: str, ids: list[str] | str) -> None:
    assert build_parser().parse_args(line.split()).id == ids


@pytest.mark.parametrize("line", ["stop", "pause", "stop EG_1 --id EG_2"])
def test_an_egress_is_named_in_one_way(line: str) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(line.split())
