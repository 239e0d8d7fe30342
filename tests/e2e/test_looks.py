"""What lies over a recording, and under its tiles: seen in the files, whichever way it was asked for."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from openegress.core.looks import Corner, Looks, PictureFiles
from openegress.media.canvas import Canvas, planes, yuv_of
from openegress.media.overlays import Overlays
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS, Rgb
from testkit.probe import Rect, colour_of, frames, luma_of, probe
from testkit.service import Info, Refused, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = (640, 360)
SMALL = {"width": 640, "height": 360, "framerate": 15}
CAMERA = VideoSpec(width=640, height=360, fps=15, encoded=True)
ORANGE, RED, NAVY, TEAL = (255, 128, 0), (0xE0, 0x20, 0x20), (0, 0, 128), (0, 128, 128)
PAGE = (40, 90, 170)
LOGO = Rect(590, 14, 36, 36)
"""A square logo of 12% in the upper right corner, whose edges the encoder blurs."""
DOT = Rect(14, 14, 6, 6)
CORNER = Corner.BOTTOM_LEFT
GAP = Rect(0, 0, 4, 300)
"""Left of the tiles of a grid; what lies in the lower corner is below."""
NEAR = 16
"""Two colours of a recording are one, of 255: what encoding leaves of them."""
CHANGE_S = 1.5


@dataclass(frozen=True, slots=True)
class LooksParts:
    livekit: LivekitServer
    service: Service
    pages: PageServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LooksParts]:
    folder = tmp_path_factory.mktemp("looks")
    Image.new("RGB", (60, 60), ORANGE).save(folder / "acme.png")
    Image.new("RGB", (60, 60), TEAL).save(folder / "stage.png")
    config = {
        "overlays": {
            "logos": {"acme": str(folder / "acme.png")},
            "backgrounds": {"stage": str(folder / "stage.png")},
        },
        "layouts": {
            "inset": {
                "regions": [
                    {"x": 0, "y": 0, "w": 1, "h": 1, "who": "ann"},
                    {"x": 0.5, "y": 0.5, "w": 0.4, "h": 0.4, "who": "ben", "z": 1},
                ]
            }
        },
        "options": {"by_room": [{"rooms": ["dotted-*"], "recording_dot": "true"}]},
    }
    async with LivekitServer() as livekit, PageServer() as pages, Service(folder, livekit, config) as service:
        yield LooksParts(livekit, service, pages)


def near(found: tuple[float, float, float], expected: Rgb) -> bool:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) < NEAR


def caption_off(path: Path, at_s: float, text: str, ground: Rgb) -> float:
    """How far, in steps of 255 and on average, the line of text in the lower left corner is from `text`."""
    canvas = Canvas(*SIZE)
    canvas.fill(canvas.whole, yuv_of(*ground))
    drawn = Overlays(*SIZE, Looks(text=text, text_corner=CORNER), PictureFiles()).over(canvas.picture(), 0)
    rows, columns = slice(320, 350), slice(12, 140)
    shown = next(frame for time_s, frame in frames(path) if time_s >= at_s)
    off = luma_of(shown)[rows, columns].astype(float) - planes(drawn)[0][rows, columns]
    return float(np.abs(off).mean())


def at(path: Path, at_s: float, rect: Rect) -> tuple[float, float, float]:
    return colour_of(next(frame for time_s, frame in frames(path) if time_s >= at_s), rect)


def check_whole(info: Info) -> Path:
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", ""), info
    facts = probe(location(info))
    assert facts.video is not None and facts.video.rising
    return location(info)


async def test_a_room(parts: LooksParts) -> None:
    """All that there is, changed while it runs."""
    service = parts.service
    async with (
        Publisher(parts.livekit, "dotted-1", "ann", CAMERA, AudioSpec(level=0.5)) as ann,
        Publisher(parts.livekit, "dotted-1", "ben", replace(CAMERA, colour=COLOURS[1])),
    ):
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name=ann.room_name,
            layout="grid?logo=acme&text=Part%201&text_corner=bottom-left&names=yes&background=navy",
            advanced=SMALL,
            file_outputs=[{"filepath": "room.mp4"}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(3)
        changed = await service.call("UpdateLayout", egress_id=egress_id, layout="?background=stage&logo=")
        assert changed["room_composite"]["layout"] == "grid?logo=&background=stage"
        asked = {"text": "Part 2", "max_duration": "2h"}
        changed = await service.control("SetOptions", egress_id, options=asked)
        assert changed["room_composite"]["layout"] == "grid?text=Part%202"
        with pytest.raises(Refused) as refused:
            await service.call("UpdateLayout", egress_id=egress_id, layout="grid?logo=acne")
        assert "acne" in refused.value.message and "did you mean acme" in refused.value.message
        with pytest.raises(Refused, match="changing leave_out of a running egress"):
            await service.control("SetOptions", egress_id, options={"leave_out": "ann", "text": "x"})
        await asyncio.sleep(CHANGE_S + 1)
        path = check_whole(await service.finish(egress_id))
    end_s = probe(path).video.duration_s - 0.3  # type: ignore[union-attr]
    assert near(at(path, 2.5, LOGO), ORANGE) and not near(at(path, end_s, LOGO), ORANGE)
    assert near(at(path, 2.5, DOT), RED) and near(at(path, end_s, DOT), RED)
    assert near(at(path, 2.5, GAP), NAVY) and near(at(path, end_s, GAP), TEAL)
    texts = ("Part 1", "Part 2")
    for at_s, shown in ((2.5, 0), (end_s, 1)):
        found = [caption_off(path, at_s, text, COLOURS[0]) for text in texts]
        assert found[shown] < found[1 - shown], found


async def test_a_layout_of_the_operators(parts: LooksParts) -> None:
    """It is changed to while the egress runs; one person lies over another, whose pictures keep coming."""
    service = parts.service
    async with (
        Publisher(parts.livekit, "inset-1", "ann", CAMERA) as ann,
        Publisher(parts.livekit, "inset-1", "ben", replace(CAMERA, colour=COLOURS[1])),
    ):
        egress_id = (
            await service.call(
                "StartRoomCompositeEgress",
                room_name=ann.room_name,
                layout="grid",
                advanced=SMALL,
                file_outputs=[{"filepath": "inset.mp4"}],
            )
        )["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(CHANGE_S)
        changed = await service.call("UpdateLayout", egress_id=egress_id, layout="inset")
        assert "taken for" not in changed["details"]
        await asyncio.sleep(2 * CHANGE_S)
        path = check_whole(await service.finish(egress_id))
    inset, below = Rect(330, 220, 40, 40), (Rect(20, 80, 200, 60), Rect(590, 80, 30, 200))
    pictures = [frame for _, frame in frames(path)]
    for picture in pictures[-8:]:
        assert near(colour_of(picture, inset), COLOURS[1])
        assert all(near(colour_of(picture, rect), COLOURS[0]) for rect in below)
    assert not near(colour_of(pictures[10], below[1]), COLOURS[0])  # a grid of two


@pytest.mark.parametrize("kind", ["web", "participant"])
async def test_what_is_not_laid_out_here(parts: LooksParts, kind: str) -> None:
    """A page; and tracks that would go as they are, if nothing were drawn on them. Changed while it runs."""
    service, options = (
        parts.service,
        "logo=acme&text=Part%201&text_corner=bottom-left&recording_dot=yes&clock=Asia%2FTokyo",
    )
    if kind == "web":
        request = {"url": parts.pages.url("blank"), "advanced": SMALL}
        await record(service, "StartWebEgress", options, "web.mp4", **request)
        ground: Rgb = PAGE
    else:
        async with Publisher(parts.livekit, "plain-1", "ann", CAMERA, AudioSpec()) as ann:
            request = {"room_name": ann.room_name, "identity": "ann", "advanced": SMALL}
            await record(service, "StartParticipantEgress", options, "participant.mp4", **request)
        ground = COLOURS[0]
    path = service.out / f"{kind}.mp4"
    assert near(at(path, 1.0, LOGO), ORANGE) and near(at(path, 1.0, DOT), RED)
    assert caption_off(path, 1.0, "Part 1", ground) < caption_off(path, 1.0, "Part 2", ground)
    end_s = probe(path).video.duration_s - 0.3  # type: ignore[union-attr]
    assert near(at(path, end_s, LOGO), ground) and near(at(path, end_s, DOT), RED)
    assert caption_off(path, end_s, "Part 2", ground) < caption_off(path, end_s, "Part 1", ground)


async def record(service: Service, method: str, options: str, name: str, **request: object) -> Info:
    outputs = {"file_outputs": [{"filepath": name}]}
    egress_id = (await service.call_with(options, method, **request, **outputs))["egress_id"]
    await service.active(egress_id)
    await asyncio.sleep(2)
    with pytest.raises(Refused, match="names of anything but a room"):
        await service.control("SetOptions", egress_id, options={"names": "yes", "text": "x"})
    with pytest.raises(Refused, match="did you mean acme"):
        await service.call("UpdateLayout", egress_id=egress_id, layout="?logo=acne")
    await service.control("SetOptions", egress_id, options={"logo": ""})
    await service.call("UpdateLayout", egress_id=egress_id, layout="?text=Part%202")
    await asyncio.sleep(CHANGE_S)
    info = await service.finish(egress_id)
    check_whole(info)
    return info


async def test_what_cannot_be_drawn_is_refused(parts: LooksParts) -> None:
    service, page = parts.service, parts.pages.url("blank")
    outputs = {"file_outputs": [{"filepath": "x.mp4"}]}
    for method, request, options, words in (
        ("StartWebEgress", {"url": page, **outputs}, "names=yes", "names of anything but a room"),
        (
            "StartWebEgress",
            {"url": page, "audio_only": True, **outputs},
            "text=x",
            "text: this egress has no",
        ),
        (
            "StartWebEgress",
            {"url": page, **outputs},
            "logo=acne",
            'logo: "acne" is not one of overlays.logos',
        ),
        ("StartWebEgress", {"url": page, **outputs}, "clock=Mars", '"Mars" is not a time zone'),
    ):
        with pytest.raises(Refused) as refused:
            await service.call_with(options, method, **request)
        assert words in refused.value.message
