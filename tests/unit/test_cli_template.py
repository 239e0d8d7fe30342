"""`openegress test-template`: its flags, the URL it opens, and what its publishers send."""

import sys
from urllib.parse import parse_qs, urlsplit

import jwt
import numpy as np
import pytest

from openegress.cli import template
from openegress.cli.demo_publishers import (
    BLOCK_S,
    COLOURS,
    FPS,
    HEIGHT,
    SAMPLE_RATE,
    TURN_S,
    WIDTH,
    picture,
    sound,
)
from openegress.cli.flags import settings_of
from openegress.cli.parser import build_parser
from openegress.core.errors import EgressError
from openegress.core.tokens import participant_token

LIVEKIT = ("--livekit-url", "wss://livekit.example", "--api-key", "key", "--api-secret", "s" * 32)
ASKED = ("test-template", "--base-url", "https://t.example/?theme=dark", "--publishers", "0", *LIVEKIT)


def test_the_page_gets_what_a_recording_gives_it() -> None:
    arguments = build_parser().parse_args([*ASKED, "--layout", "mosaic", "--no-open"])
    settings, _ = settings_of(arguments)
    url = urlsplit(template.url_of(settings, "lobby", arguments.base_url, arguments.layout))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    token = query.pop("token")
    assert query == {"theme": "dark", "layout": "mosaic", "url": "wss://livekit.example"}
    claims = jwt.decode(token, "s" * 32, algorithms=["HS256"])
    assert (claims["sub"], claims["kind"]) == ("template_test", "egress")
    assert claims["video"]["room"] == "lobby" and claims["video"]["hidden"] and claims["video"]["recorder"]


def test_who_publishes_is_seen() -> None:
    claims = jwt.decode(participant_token("k", "s" * 32, "r", "ann"), "s" * 32, algorithms=["HS256"])
    assert claims["sub"] == "ann" and "kind" not in claims
    assert claims["video"] == {"roomJoin": True, "room": "r"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--base-url", "not a URL"), "template base url"),
        (("--publishers", "-1"), "--publishers -1 is less than none"),
        (("--livekit-url", "", "--api-key", "", "--api-secret", ""), "no LiveKit server: set LIVEKIT_URL"),
    ],
)
def test_what_cannot_be_shown(more: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EgressError, match=said):
        template.run(build_parser().parse_args([*ASKED, *more]))


def test_publishers_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openegress.cli.demo_publishers", None)
    with pytest.raises(EgressError, match=r"install openegress\[test-template\]"):
        template.run(build_parser().parse_args([*ASKED, "--publishers", "2", "--no-open"]))


def test_each_publisher_has_a_colour_and_its_turn() -> None:
    for number, (luma, cb, cr) in enumerate(COLOURS):
        shown = picture(number, 0)
        assert len(shown) == WIDTH * HEIGHT * 3 // 2
        assert (shown[0], shown[WIDTH * HEIGHT], shown[-1]) == (luma, cb, cr)
    assert (picture(0, 0) != picture(0, FPS)).any()
    blocks = round(TURN_S / BLOCK_S)
    for index in range(3 * blocks):
        heard = [np.abs(sound(number, 3, index)).max() > 0 for number in range(3)]
        assert heard == [number == index // blocks for number in range(3)]
    whole = np.concatenate([sound(0, 1, index) for index in range(3)])
    assert np.abs(np.diff(whole.astype(int))).max() < 32767 * 0.2 * 2 * np.pi * 220 / SAMPLE_RATE * 1.01
