"""Examples in the documentation hold: requests are taken, configurations load, commands exist."""

import ast
import contextlib
import importlib
import io
import itertools
import json
import re
import shlex
from datetime import UTC
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from livekit.protocol import egress, room, webhook

from openegress.api import wire_json
from openegress.api.auth import verify
from openegress.api.control import CONTROL
from openegress.cli import main
from openegress.cli.parser import build_parser
from openegress.config.check import check
from openegress.config.load import load
from openegress.core.key_service import answer_of, request_body
from openegress.core.room_keys import KeyQuestion
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, ClipRequest, SetOptionsRequest
from openegress.request.context import Context
from openegress.request.layout_file import parse_layout, read_layout
from openegress.request.options import HEADER, of_query
from openegress.request.validate import plan_of
from scripts import gallery
from testkit.markdown import ROOT, TEXTS, Block, blocks, commands

BLOCKS = blocks(TEXTS)
STARTS = {
    "StartRoomCompositeEgress": ("room_composite", egress.RoomCompositeEgressRequest),
    "StartWebEgress": ("web", egress.WebEgressRequest),
    "StartParticipantEgress": ("participant", egress.ParticipantEgressRequest),
    "StartTrackCompositeEgress": ("track_composite", egress.TrackCompositeEgressRequest),
    "StartTrackEgress": ("track", egress.TrackEgressRequest),
    "StartEgress": ("egress", egress.StartEgressRequest),
}
OTHERS = {
    "UpdateLayout": egress.UpdateLayoutRequest,
    "UpdateStream": egress.UpdateStreamRequest,
    "ListEgress": egress.ListEgressRequest,
    "StopEgress": egress.StopEgressRequest,
}
CONTROL_REQUESTS: dict[str, type[Message]] = {
    "PauseEgress": egress.StopEgressRequest,
    "ResumeEgress": egress.StopEgressRequest,
    "SetOptions": SetOptionsRequest,
    "AddMarker": AddMarkerRequest,
    "Clip": ClipRequest,
}
ROOM_REQUESTS: dict[str, type[Message]] = {"UpdateParticipant": room.UpdateParticipantRequest}
"""At a LiveKit server."""
MESSAGES = {"EgressInfo": egress.EgressInfo, "Webhook": webhook.WebhookEvent}
CONTEXT = Context(
    now_ns=1,
    storage=StoragePlan(LocalStorage("/out")),
    ws_url="ws://localhost",
    template_base="",
    make_token=lambda egress_id, room_name: "token",
    zone=UTC,
)


def of(language: str, *titles: str) -> pytest.MarkDecorator:
    """A parameter for each such block."""
    found = [each for each in BLOCKS if each.language == language and (not titles or each.title in titles)]
    assert found
    return pytest.mark.parametrize("block", found, ids=str)


def check_request(method: str, body: str) -> None:
    """As the API takes it: known to the last field, and carried out as asked."""
    if method in OTHERS:
        wire_json.parse(body.encode(), OTHERS[method])
        return
    field, kind = STARTS[method]
    request = StartEgressRequest(egress_id="EG_1")
    getattr(request, field).CopyFrom(wire_json.parse(body.encode(), kind, has_options=True))
    plan = plan_of(request, CONTEXT)
    assert plan.outputs
    assert plan.notices == ()


@of("json", *STARTS, *OTHERS)
def test_requests_are_taken(block: Block) -> None:
    check_request(block.title, block.text)


@of("json", *MESSAGES)
def test_answers_are_messages_of_the_api(block: Block) -> None:
    json_format.Parse(block.text, MESSAGES[block.title]())


@of("json", "lesson.json")
def test_layouts_are_layouts(block: Block) -> None:
    assert parse_layout(block.text, "lesson") == read_layout(gallery.LESSON, "lesson")


@of("json", "key request")
def test_key_requests_are_what_is_sent(block: Block) -> None:
    shown = json.loads(block.text)
    room, of = shown["room"], shown["egressInfo"]["egressId"]
    question = KeyQuestion(tuple(shown["identities"]), shown["keyIndex"])
    sent = request_body(
        question,
        room_name=room["name"],
        room_id=room["sid"],
        egress_id=of,
        event_id=shown["id"],
        now_s=int(shown["createdAt"]),
    )
    assert shown == json.loads(sent)


@of("json", "key answer")
def test_key_answers_are_taken(block: Block) -> None:
    answer = answer_of(block.text.encode())
    assert [key.index for key in answer.keys] == [3, 0] and answer.refresh_s == 600


def test_every_json_says_what_it_is() -> None:
    titles = {*STARTS, *OTHERS, *MESSAGES, "lesson.json", "key request", "key answer"}
    assert [str(each) for each in BLOCKS if each.language == "json" and each.title not in titles] == []


def test_every_method_is_shown() -> None:
    shown = {each.title for each in BLOCKS if each.page == "docs/requests.md"}
    assert shown >= {*STARTS, *OTHERS}


# --- configurations


@of("yaml", "config.yaml")
def test_configurations_are_fine(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command itself, with a key and a server where the page shows a part."""
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "EGRESS_CONFIG_BODY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config.yaml"
    path.write_text(block.text)
    loaded = load(file=str(path), environ={})
    assert check(loaded.settings, loaded.warnings) == []
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["config", "check", "--config", str(path)]) == 0


@of("yaml", "values.yaml")
def test_values_hold_a_configuration(block: Block) -> None:
    values = yaml.safe_load(block.text)
    known = yaml.safe_load((ROOT / "deploy/helm/openegress/values.yaml").read_text())
    assert values.keys() <= known.keys()
    loaded = load(body=yaml.safe_dump(values["egress"]), environ={})
    assert [each for each in loaded.warnings if "log_level" not in each] == []


@of("yaml", "livekit.yaml")
def test_the_livekit_server_has_the_key_and_redis_of_its_worker(block: Block) -> None:
    server = yaml.safe_load(block.text)
    (worker,) = (
        yaml.safe_load(each.text)
        for each in BLOCKS
        if each.page == block.page and each.title == "config.yaml" and ":7880" in each.text
    )
    assert server["keys"] == {worker["api_key"]: worker["api_secret"]}
    assert server.get("redis") == worker.get("redis")


@of("yaml", "compose.yaml")
def test_a_composed_service_is_set_up_as_ours(block: Block) -> None:
    shown = yaml.safe_load(block.text)["services"]["egress"]
    ours = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["egress"]
    for key in ("image", "stop_grace_period"):
        assert shown[key] == ours[key]
    for key in ("security_opt", "volumes"):
        named = [each for each in shown[key] if not each.startswith("./")]
        assert named and set(named) <= set(ours[key])


def test_every_yaml_says_what_it_is() -> None:
    titles = {"config.yaml", "values.yaml", "livekit.yaml", "compose.yaml", "reference.yaml"}
    assert [str(each) for each in BLOCKS if each.language == "yaml" and each.title not in titles] == []


# --- commands

LK = {"start": {"--type"}, "list": {"--active"}, "stop": {"--id"}, "update-layout": {"--id", "--layout"}}
MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OPTIONS_WITH_VALUE = {"-f", "--set", "-t", "-p", "-e", "-v", "--security-opt", "--shm-size", "--stop-timeout"}


def check_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    assert set(targets) <= MAKE


def check_openegress(words: list[str]) -> None:
    try:
        build_parser().parse_args(words)
    except SystemExit as refused:
        assert refused.code in (0, None)


def check_lk(words: list[str]) -> None:
    assert words[0] == "egress"
    assert {word for word in words if word.startswith("-")} <= LK[words[1]]


def check_curl(words: list[str]) -> None:
    (url,) = (word for word in words if word.startswith("http"))
    service, method = url.split("/twirp/")[1].split("/")
    assert service in ("livekit.Egress", "livekit.RoomService", CONTROL)
    headers = [words[n + 1] for n, word in enumerate(words) if word == "-H"]
    assert "Content-Type: application/json" in headers
    for header in headers:
        name, _, value = header.partition(": ")
        if name == HEADER:
            of_query(value, HEADER)
    body = words[words.index("-d") + 1]
    if service == CONTROL:
        wire_json.parse(body.encode(), CONTROL_REQUESTS[method])
    elif service == "livekit.RoomService":
        json_format.Parse(body, ROOM_REQUESTS[method]())
    else:
        check_request(method, body)


def check_files(words: list[str]) -> None:
    """Arguments that lie in the repository are there. `values.yaml` is the reader's own."""
    named = [word.rpartition("=")[2] for word in words if "deploy/" in word]
    assert [name for name in named if not (ROOT / name).exists()] == []
    seen = [n for n, word in enumerate(words) if word in OPTIONS_WITH_VALUE]
    assert all(n + 1 < len(words) for n in seen)


CHECKS = {
    "make": check_make,
    "openegress": check_openegress,
    "lk": check_lk,
    "curl": check_curl,
    "docker": check_files,
    "helm": check_files,
    "kubectl": check_files,
}
VARIABLE = re.compile("[A-Z_]+=")
TAKEN_AS_THEY_ARE = {"source", "export", "echo", "uv", "pipx", "git", "python", "ffmpeg"}


@pytest.mark.parametrize(
    ("place", "command"),
    [(str(block), command) for block in BLOCKS if block.language == "sh" for command in commands(block)],
)
def test_commands_exist(place: str, command: str) -> None:
    for part in command.split(" && "):
        said = shlex.split(part, comments=True)
        program, *words = itertools.dropwhile(VARIABLE.match, said)
        if program in CHECKS:
            CHECKS[program](words)
        else:
            assert program in TAKEN_AS_THEY_ARE


def test_every_command_is_in_a_block_that_is_checked() -> None:
    others = {"bash", "shell", "console", "zsh"}
    assert [str(block) for block in BLOCKS if block.language in others] == []


def test_what_is_echoed_into_a_file_is_a_request() -> None:
    found = [
        shlex.split(command)[1]
        for block in BLOCKS
        if block.language == "sh"
        for command in commands(block)
        if command.startswith("echo '{")
    ]
    assert found
    for body in found:
        check_request("StartRoomCompositeEgress", body)


# --- ways to say it


def ways(page: str) -> set[str]:
    found: set[str] = set()
    for block in BLOCKS:
        if block.page != page:
            continue
        match block.language, block.title:
            case "python" | "js", _:
                found.add(block.language)
            case "yaml", "config.yaml":
                found.add("configuration")
            case "sh", _:
                found |= {command.split()[0] for command in commands(block)} & {"curl", "openegress"}
    return found


@pytest.mark.parametrize("name", ["auto-start", "looks", "markers", "options", "pause", "people", "resume"])
def test_control_is_shown_in_every_way(name: str) -> None:
    """Below the question that the page answers."""
    question = (ROOT / f"docs/{name}.md").read_text().split("\n\n")[1].replace("\n", " ")
    assert question.startswith("*") and question.endswith("?*")
    assert ways(f"docs/{name}.md") == {"python", "js", "curl", "openegress", "configuration"}


# --- code


@of("python")
def test_python_uses_what_the_sdk_has(block: Block) -> None:
    """Names of livekit.api are there, and its messages have the fields that are set."""
    api = importlib.import_module("livekit.api")
    for node in ast.walk(ast.parse(block.text)):
        match node:
            case ast.Attribute(value=ast.Name(id="api"), attr=name):
                assert hasattr(api, name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="api"), attr=name), keywords=keywords):
                kind = getattr(api, name)
                fields = getattr(getattr(kind, "DESCRIPTOR", None), "fields_by_name", None)
                if fields is not None:
                    assert {keyword.arg for keyword in keywords} <= set(fields)
            case ast.Attribute(value=ast.Attribute(attr="egress"), attr=name):
                assert hasattr(api.egress_service.EgressService, name)
            case ast.Attribute(value=ast.Attribute(attr="room"), attr=name):
                assert hasattr(api.room_service.RoomService, name)


def test_the_token_of_the_docs_may_record(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (each for each in BLOCKS if each.title == "token")
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "at-least-32-characters-of-a-secret")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block.text, str(block), "exec"), {})
    caller = verify(
        f"Bearer {said.getvalue().strip()}", None, {"devkey": "at-least-32-characters-of-a-secret"}
    )
    caller.require_record()
