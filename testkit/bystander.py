"""A room's recording that runs beside an attack, and is checked for what it must not have lost."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openegress.source.room.composite.rectangles import Size, grid_rects
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS
from testkit.probe import Rect, counters, probe, sound
from testkit.service import Service, location

ROOM = "bystanders"
TONES_HZ = (440, 660)
LEVEL = 0.1
WINDOW_S = 0.1


def tile(index: int, others: int) -> Rect:
    """Of one of the two people in a grid of 1280x720 with `others` who came later."""
    found = grid_rects(len(TONES_HZ) + others, Size(1280, 720))[index]
    return Rect(found.x, found.y, found.width, found.height)


def levels(path: Path, hz: float) -> NDArray[np.float64]:
    """How loud a tone is in each window of the file."""
    heard = sound(path)
    wave, size = heard.samples.mean(axis=0), round(WINDOW_S * heard.sample_rate)
    windows = wave[: len(wave) // size * size].reshape(-1, size)
    turn = np.exp(-2j * np.pi * hz * np.arange(size) / heard.sample_rate)
    found: NDArray[np.float64] = np.abs(windows @ turn) * 2 / size
    return found


@contextlib.asynccontextmanager
async def composite_beside(
    service: Service,
    livekit: LivekitServer,
    others: contextlib.AbstractAsyncContextManager[object] | None = None,
    tiles: int = 0,
) -> AsyncIterator[str]:
    """The egress id of two people's composite. It runs to its end, with sound throughout and their pictures
    in order. `others` join before it begins, with so many `tiles`."""
    people = []
    for index, hz in enumerate(TONES_HZ):
        where = tile(index, tiles)
        video = VideoSpec(
            width=where.width, height=where.height, kbps=500, colour=COLOURS[index], encoded=True
        )
        audio = AudioSpec(tone_hz=hz, level=LEVEL, beep_level=LEVEL)
        people.append(Publisher(livekit, ROOM, f"person {index}", video, audio))
    async with people[0], people[1], others or contextlib.nullcontext():
        request = {"room_name": ROOM, "layout": "grid", "file_outputs": [{"filepath": "bystander.mp4"}]}
        egress_id = (await service.call("StartRoomCompositeEgress", **request))["egress_id"]
        await service.active(egress_id)
        yield egress_id
        info = await service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    path = location(info)
    facts = probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    assert facts.video is not None and facts.video.duration_s > facts.duration_s - 1
    for index in range(len(people)):
        read = counters(path, tile(index, tiles))
        assert read.in_order and read.unreadable == 0, f"pictures of person {index}"


def check_sound(path: Path) -> None:
    """Of each person a tone from beginning to end, but for the beep that takes its place for 0.1 s."""
    for hz in TONES_HZ:
        heard = levels(path, hz)[2:-2]
        nearby = np.maximum(np.maximum(heard[:-2], heard[1:-1]), heard[2:])
        assert nearby.min() > LEVEL / 2, f"{hz} Hz: {heard.round(3)}"
