"""Rooms laid out: each participant where the layout puts them, from request to file."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import numpy as np
import pytest
from av.video.frame import VideoFrame
from livekit import api

from testkit.lip_sync import beside_pictures
from testkit.livekit_server import LivekitServer, free_port
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.pattern import COLOURS, Rgb
from testkit.probe import (
    Rect,
    av_offset,
    colour_of,
    counters,
    crop,
    frames,
    has_tone,
    luma_of,
    probe,
    tones,
)
from testkit.service import Info, Refused, Service, end_reason, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNIQUE = 0.98
"""Of the pictures, at least, show one that the one before did not."""
CHANGE_S = 1.0
"""Within which a change of the layout is seen."""
ROOM_S = 2.0
"""Within which what people do is seen: their tracks have to be negotiated, and wait for a key frame."""
SLOTS_S = 0.07
"""A picture is in a slot of the recording's clock that began up to two pictures before it."""
HOLD_S = 1.3
"""How long each picture is kept up: longer than a change may take."""

WHOLE = Rect(0, 0, 1280, 720)
LEFT, RIGHT = Rect(8, 8, 628, 704), Rect(644, 8, 628, 704)
FOCUS = Rect(224, 8, 1048, 704)
BESIDE, BELOW = Rect(8, 8, 208, 116), Rect(8, 132, 208, 116)
PERSON = Rect(320, 0, 640, 720)
"""The whole of a tall picture that has the room to itself."""
CORNER = Rect(0, 0, 6, 6)
"""Between the tiles, wherever there are several."""
DARK, LIGHT = (0x11, 0x11, 0x11), (0xFF, 0xFF, 0xFF)
DARK_TILE, LIGHT_TILE = (0x22, 0x22, 0x22), (0xE4, 0xE4, 0xE4)
ANN, BEN, SCREEN = COLOURS[:3]
ANN_HZ, BEN_HZ = 440, 660

Look = Sequence[tuple[Rect, Rgb]]
"""Parts of a picture with the colour that each has."""


def speaks(hz: float) -> AudioSpec:
    return AudioSpec(tone_hz=hz)


def murmurs(hz: float) -> AudioSpec:
    """Too low for a server to call it speech (35 dB below full scale), and without beeps."""
    return AudioSpec(tone_hz=hz, level=0.015, beep_level=0.0)


def camera(colour: Rgb) -> VideoSpec:
    """Encoded here, so that each picture is sent once whatever else the machine does."""
    return VideoSpec(width=320, height=360, kbps=400, colour=colour, encoded=True)


def swatch(tile: Rect) -> Rect:
    """A part of a tile that shows a participant's colour; their tall pictures fill no tile but a grid's."""
    return Rect(
        tile.x + tile.width * 9 // 20, tile.y + tile.height * 3 // 8, tile.width // 10, tile.height // 8
    )


def margin(tile: Rect) -> Rect:
    """A part of a tile beside the name or the tall picture in its middle."""
    return Rect(tile.x + 2, tile.y + tile.height // 2, tile.width // 16, tile.height // 16)


def shows(frame: VideoFrame, look: Look) -> bool:
    return all(
        max(abs(seen - wanted) for seen, wanted in zip(colour_of(frame, rect), colour, strict=True)) <= 25
        for rect, colour in look
    )


def begun_s(info: Info) -> float:
    """Unix time of the file's first picture."""
    return int(info["file_results"][0]["started_at"]) / 1e9


@dataclass(frozen=True, slots=True)
class Change:
    """From this moment on (unix s) the picture is to look like this."""

    at_s: float
    look: Look
    name: str = ""
    within_s: float = CHANGE_S


def check_changes(info: Info, changes: Sequence[Change], until_s: float) -> None:
    """Each is seen in its time, and keeps until the next."""
    seen = [(begun_s(info) + at_s, frame) for at_s, frame in frames(location(info))]
    ends = [change.at_s for change in changes[1:]] + [until_s]
    for change, end_s in zip(changes, ends, strict=True):
        looks = [
            (at_s - change.at_s, shows(frame, change.look))
            for at_s, frame in seen
            if change.at_s <= at_s < end_s - SLOTS_S
        ]
        first = next((after_s for after_s, right in looks if right), None)
        assert first is not None and first <= change.within_s, f"{change.name}: seen after {first} s"
        assert all(right for after_s, right in looks if after_s > change.within_s), (
            f"{change.name} did not keep"
        )


@pytest.mark.quiet
async def test_two_participants_in_a_grid(parts: Parts) -> None:
    ann = await parts.join("grid", "ann", camera(ANN), murmurs(ANN_HZ))
    await parts.join("grid", "ben", camera(BEN), speaks(BEN_HZ))
    egress_id = await parts.start(room_name="grid", file_outputs=[{"filepath": "{room_name}/{time}"}])
    await asyncio.sleep(5.0)
    stopped_s = time.time()
    info = await parts.service.finish(egress_id)
    check_grid(info, stopped_s, ann)
    check_pictures(location(info))


def check_grid(info: Info, stopped_s: float, ann: Publisher) -> None:
    assert (info["status"], info["error"], info["source_type"]) == (
        "EGRESS_COMPLETE",
        "",
        "EGRESS_SOURCE_TYPE_WEB",
    )
    assert info["room_name"] == "grid" and info["room_id"].startswith("RM_")
    path = location(info)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert (facts.video.codec, facts.video.profile, facts.video.sizes) == ("h264", "Main", ((1280, 720),))
    assert (facts.audio.codec, facts.audio.contiguous) == ("aac", True)
    assert facts.video.duration_s == pytest.approx(stopped_s - begun_s(info), abs=0.25)
    heard = tones(path, min_level=0.003)
    assert has_tone(heard, ANN_HZ) and has_tone(heard, BEN_HZ) and has_tone(heard, 1000)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert (manifest["room_name"], manifest["room_id"]) == ("grid", info["room_id"])
    check_times(info, ann)


def check_times(info: Info, ann: Publisher) -> None:
    """Pictures are those that were sent when the file says, give or take a slot of its clock and a little."""
    sent_s = {counter: at_ns / 1e9 for counter, at_ns in ann.sent_ns().items()}
    read = counters(location(info), LEFT).read
    delays = [begun_s(info) + at_s - sent_s[counter] for at_s, counter in read if counter is not None]
    assert delays
    assert abs(float(np.median(delays))) <= 0.06, f"pictures are {np.median(delays):.3f} s old"


def check_pictures(path: Path) -> None:
    video = probe(path).video
    assert video is not None and video.fps == pytest.approx(30, abs=0.01)
    wrong_s = [round(at_s, 2) for at_s, frame in frames(path) if not shows(frame, look_of("grid"))]
    assert not wrong_s, f"tiles are wrong at {wrong_s} s"
    for tile in (LEFT, RIGHT):
        read = counters(path, tile)
        assert read.in_order
        assert read.unique >= UNIQUE * len(read.read)


@pytest.mark.quiet
async def test_sound_and_picture_of_a_room_are_in_step(parts: Parts) -> None:
    await parts.join("sync", "ann", camera(ANN), murmurs(ANN_HZ))
    await parts.join("sync", "ben", camera(BEN), speaks(BEN_HZ))
    egress_id = await parts.start(room_name="sync", file_outputs=[{"filepath": "sync.mp4"}])
    await asyncio.sleep(6.0)
    info = await parts.service.finish(egress_id)
    offsets_ms = [offset_ms for _, offset_ms in av_offset(location(info), RIGHT).samples]
    assert len(offsets_ms) >= 5
    assert max(map(abs, offsets_ms)) <= 40, offsets_ms


def look_of(layout: str) -> Look:
    """ann came first, ben speaks."""
    arrangement = layout.removesuffix("-light").removesuffix("-dark")
    background, tile = (LIGHT, LIGHT_TILE) if layout.endswith("-light") else (DARK, DARK_TILE)
    match arrangement:
        case "grid":
            return [(swatch(LEFT), ANN), (swatch(RIGHT), BEN), (CORNER, background)]
        case "speaker":
            return [(swatch(FOCUS), BEN), (swatch(BESIDE), ANN), (CORNER, background)]
        case "single-speaker":
            return [(swatch(WHOLE), BEN), (margin(WHOLE), tile), (CORNER, tile)]
    raise ValueError(layout)


LAYOUTS = (
    "speaker",
    "single-speaker",
    "grid-light",
    "speaker-light",
    "single-speaker-light",
    "grid-dark",
    "speaker-dark",
    "single-speaker-dark",
    "grid",
)
"""In an order in which each looks different from the one before."""


@pytest.mark.quiet
async def test_update_layout_changes_the_picture_within_a_second(parts: Parts) -> None:
    await parts.join("layouts", "ann", camera(ANN), murmurs(ANN_HZ))
    await parts.join("layouts", "ben", camera(BEN), speaks(BEN_HZ))
    egress_id = await parts.start(room_name="layouts", file_outputs=[{"filepath": "layouts.mp4"}])
    await asyncio.sleep(HOLD_S)
    changes = []
    for layout in LAYOUTS:
        changes.append(Change(time.time(), look_of(layout), layout))
        info = await parts.service.call("UpdateLayout", egress_id=egress_id, layout=layout)
        assert info["room_composite"]["layout"] == layout
        await asyncio.sleep(HOLD_S)
    stopped_s = time.time()
    info = await parts.service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    assert info["room_composite"]["layout"] == "grid"
    check_changes(info, changes, stopped_s)


@pytest.mark.quiet
@pytest.mark.parametrize("layout", ["speaker-light", "single-speaker"])
async def test_a_layout_from_the_beginning(parts: Parts, layout: str) -> None:
    await parts.join(layout, "ann", camera(ANN), murmurs(ANN_HZ))
    await parts.join(layout, "ben", camera(BEN), speaks(BEN_HZ))
    egress_id = await parts.start(
        "StartEgress",
        room_name=layout,
        template={"layout": layout},
        outputs=[{"file": {"filepath": f"{layout}.mp4"}}],
    )
    await asyncio.sleep(2 * HOLD_S)
    stopped_s = time.time()
    info = await parts.service.finish(egress_id)
    assert info["egress"]["template"]["layout"] == layout
    # A latecomer learns who speaks when levels next change.
    check_changes(info, [Change(begun_s(info) + CHANGE_S, look_of(layout), layout)], stopped_s)


@pytest.mark.quiet
async def test_screens_names_and_leaving(parts: Parts) -> None:
    ann = await parts.join("people", "ann", camera(ANN), murmurs(ANN_HZ))
    ben = await parts.join("people", "ben", camera(BEN), speaks(BEN_HZ))
    egress_id = await parts.start(room_name="people", file_outputs=[{"filepath": "people.mp4"}])
    await asyncio.sleep(HOLD_S)
    changes: list[Change] = []

    async def hold(look: Look, name: str) -> None:
        changes.append(Change(time.time(), look, name, ROOM_S))
        await asyncio.sleep(ROOM_S + 0.3)

    sharing = [(swatch(FOCUS), SCREEN), (swatch(BESIDE), ANN), (swatch(BELOW), BEN), (CORNER, DARK)]
    await ann.publish("screen", VideoSpec(width=640, height=430, fps=15, kbps=500, colour=SCREEN))
    await hold(sharing, "screen in grid")
    await parts.service.call("UpdateLayout", egress_id=egress_id, layout="speaker")
    await hold(sharing, "screen in speaker")
    await parts.service.call("UpdateLayout", egress_id=egress_id, layout="grid")
    await ann.unpublish("screen")
    await hold(look_of("grid"), "no screen")
    ann.mute("camera")
    await hold([(margin(LEFT), DARK_TILE), (swatch(RIGHT), BEN), (CORNER, DARK)], "ann's name")
    ann.unmute("camera")
    await hold(look_of("grid"), "ann again")
    await ben.leave()
    await hold([(swatch(WHOLE), ANN), (margin(WHOLE), DARK_TILE), (CORNER, DARK_TILE)], "ann alone")
    leaving_s = time.time()
    await ann.leave()
    left_s = time.time()
    info = await parts.service.wait(egress_id, timeout_s=20)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert end_reason(info) == "End reason: Source closed"
    assert int(info["ended_at"]) / 1e9 - left_s < 5
    check_changes(info, changes, leaving_s)
    named = next(change.at_s for change in changes if change.name == "ann's name") + ROOM_S
    letters = [
        float(crop(luma_of(frame), LEFT).std())
        for at_s, frame in frames(location(info))
        if named < begun_s(info) + at_s < named + 0.3
    ]
    assert letters and min(letters) > 5, "no name on the tile of a muted camera"


async def test_a_deleted_room_ends_its_recording(parts: Parts) -> None:
    await parts.join("deleted", "ann", camera(ANN), speaks(ANN_HZ))
    egress_id = await parts.start(room_name="deleted", file={"filepath": "deleted.mp4"})
    await asyncio.sleep(1.0)
    await parts.delete("deleted")
    info = await parts.service.wait(egress_id, timeout_s=20)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert end_reason(info) == "End reason: Source closed"
    video = probe(location(info)).video
    assert video is not None and video.duration_s > 0.8


async def test_a_template_of_ones_own(parts: Parts, pages: PageServer) -> None:
    """It gets layout, url and a recorder's token in its query, and says itself when to start and end. Of the
    layout it gets what is no option of ours."""
    await parts.livekit.room_service().create_room(api.CreateRoomRequest(name="own"))
    started = await parts.service.call(
        "StartRoomCompositeEgress",
        room_name="own",
        layout="mosaic?tiles=4&max_duration=1h",
        custom_base_url=pages.url("ending?theme=dark"),
        file_outputs=[{"filepath": "own.mp4"}],
    )
    info = await parts.service.wait(started["egress_id"], timeout_s=20)
    assert (info["status"], info["details"]) == ("EGRESS_COMPLETE", "End reason: Source closed")
    assert probe(location(info)).duration_s == pytest.approx(0.5, abs=0.4)
    [asked] = [path for path in pages.requests if path.startswith("/ending")]
    query = {name: values[0] for name, values in parse_qs(urlsplit(asked).query).items()}
    assert query.keys() == {"theme", "layout", "url", "token"}
    assert (query["theme"], query["layout"], query["url"]) == ("dark", "mosaic?tiles=4", parts.livekit.ws_url)
    claims = jwt.decode(query["token"], parts.livekit.api_secret, algorithms=["HS256"])
    assert (claims["sub"], claims["kind"], claims["video"]["room"]) == (info["egress_id"], "egress", "own")
    assert claims["video"]["hidden"] and claims["video"]["recorder"] and claims["video"]["canSubscribe"]
    assert query["token"] not in json.dumps(info) + parts.service.log


@pytest.mark.quiet
async def test_channels_beside_a_pages_picture(tmp_path: Path) -> None:
    """The page shows the room; its sound comes from the room itself, each kind on its side."""
    port = free_port()
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit, {"port": port, "template_port": port}) as service,
        Publisher(livekit, "sides", "ann", camera(ANN), speaks(ANN_HZ)),
        Publisher(livekit, "sides", "bot", None, murmurs(BEN_HZ), kind="agent"),
    ):
        service.url = f"http://127.0.0.1:{port}"
        info = await service.record(
            "StartRoomCompositeEgress",
            8.0,
            room_name="sides",
            layout="single-speaker",
            custom_base_url=service.url,
            audio_mixing="DUAL_CHANNEL_AGENT",
            file_outputs=[{"filepath": "sides.mp4"}],
        )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    for channel, wanted in ((0, [BEN_HZ]), (1, [ANN_HZ])):
        heard = tones(location(info), channel=channel, min_level=0.003)
        assert [hz for hz in (ANN_HZ, BEN_HZ) if has_tone(heard, hz)] == wanted
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous
    assert facts.video is not None and facts.audio.start_s == facts.video.start_s == 0
    # In the first second the page fills its buffer.
    offsets_ms = [ms for at_s, ms in beside_pictures(location(info), camera(ANN).fps, PERSON) if at_s > 1.0]
    assert len(offsets_ms) >= 5
    assert max(map(abs, offsets_ms)) <= 40, (offsets_ms, info["details"])


@pytest.mark.quiet
async def test_the_sound_of_a_page_is_beside_its_picture(tmp_path: Path) -> None:
    """A browser plays sound at once, and then stretches it until it waits as long as pictures do."""
    port = free_port()
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit, {"port": port, "template_port": port}) as service,
        Publisher(livekit, "page", "ann", camera(ANN), speaks(ANN_HZ)),
    ):
        service.url = f"http://127.0.0.1:{port}"
        info = await service.record(
            "StartRoomCompositeEgress",
            12.0,
            room_name="page",
            layout="single-speaker",
            custom_base_url=service.url,
            file_outputs=[{"filepath": "page.mp4"}],
        )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    offsets_ms = [ms for at_s, ms in beside_pictures(location(info), camera(ANN).fps, PERSON) if at_s > 5.0]
    assert len(offsets_ms) >= 5
    assert max(map(abs, offsets_ms)) <= 40, (offsets_ms, info["details"])


async def test_what_a_template_shows_as_its_error(parts: Parts, pages: PageServer) -> None:
    await parts.livekit.room_service().create_room(api.CreateRoomRequest(name="errors"))
    started = await parts.service.call(
        "StartRoomCompositeEgress",
        room_name="errors",
        custom_base_url=pages.url("template-error"),
        file_outputs=[{"filepath": "errors.mp4"}],
    )
    info = await parts.service.wait(started["egress_id"], timeout_s=20)
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 400)
    assert info["error"] == "template error: the token is expired"


@pytest.mark.quiet
async def test_a_room_that_the_built_in_page_cannot_join_is_told_at_once(tmp_path: Path) -> None:
    """Not after the time-out of the start signal, which is a minute."""
    port = free_port()
    config = {"port": port, "template_port": port, "template_base": f"http://127.0.0.1:{port}/"}
    async with LivekitServer() as livekit, Service(tmp_path, livekit, config) as service:
        service.url = f"http://127.0.0.1:{port}"
        await livekit.room_service().create_room(api.CreateRoomRequest(name="lost"))
        request = {"room_name": "lost", "file_outputs": [{"filepath": "lost.mp4"}]}
        started = await service.call("StartRoomCompositeEgress", **request)
        await livekit.kill()
        info = await service.wait(started["egress_id"], timeout_s=25)
        assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 400)
        said = f"template error: signalling: could not join the room at {livekit.ws_url}: "
        assert info["error"].startswith(said)


@pytest.mark.quiet
@pytest.mark.parametrize("is_ours", [True, False], ids=["the operator's", "a tenant's"])
async def test_a_template_reaches_the_room_where_pages_have_no_udp(tmp_path: Path, is_ours: bool) -> None:
    """The operator's keeps its UDP, the only way into this room; a tenant's goes over TCP."""
    port = free_port()
    config: dict[str, Any] = {"port": port, "template_port": port, "page_udp": "deny"}
    page = f"http://127.0.0.1:{port}/"
    request: dict[str, Any] = {"room_name": "room", "file_outputs": [{"filepath": "page.mp4"}]}
    if is_ours:
        config["template_base"] = page
    else:
        request["custom_base_url"] = page
    async with (
        LivekitServer(tcp=not is_ours) as livekit,
        Service(tmp_path, livekit, config) as service,
        Publisher(livekit, "room", "ann", VideoSpec(width=320, height=180, fps=10, kbps=200), AudioSpec()),
    ):
        service.url = f"http://127.0.0.1:{port}"
        info = await service.record("StartRoomCompositeEgress", 3.0, **request)
        assert info["status"] == "EGRESS_COMPLETE", service.log[-3000:]
        facts = probe(location(info))
        assert facts.audio is not None and facts.video is not None


@pytest.mark.quiet
async def test_what_has_no_layout_and_no_room(parts: Parts, pages: PageServer) -> None:
    async def refusal(method: str, **request: Any) -> tuple[str, str]:
        with pytest.raises(Refused) as caught:
            await parts.service.call(method, **request)
        return caught.value.code, caught.value.message

    output: dict[str, Any] = {"file_outputs": [{"filepath": "none.mp4"}]}
    assert await refusal("StartRoomCompositeEgress", room_name="nowhere", **output) == (
        "not_found",
        "requested room does not exist",
    )
    assert await refusal("UpdateLayout", egress_id="EG_unknown", layout="grid") == (
        "not_found",
        "egress does not exist",
    )
    await parts.livekit.room_service().create_room(api.CreateRoomRequest(name="silent"))
    template = pages.url("starting")
    egress_id = await parts.start(room_name="silent", custom_base_url=template, **output)
    assert await refusal("UpdateLayout", egress_id=egress_id, layout="grid") == (
        "not_found",
        "participant does not exist",
    )
    await parts.service.finish(egress_id)
    assert await refusal("UpdateLayout", egress_id=egress_id, layout="grid") == (
        "failed_precondition",
        "egress with status EGRESS_COMPLETE cannot be updated",
    )
