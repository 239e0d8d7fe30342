"""Records a room while it is attacked, and checks that the recording has lost nothing."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openegress.core.units import S
from openegress.source.room.composite.rectangles import Size, grid_rects
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS
from testkit.probe import Rect, counters, probe, sound
from testkit.service import Service, location

ROOM = "bystanders"
TONES_HZ = (440, 660)
LEVEL = 0.1
WINDOW_S = 0.1
FPS = 10
"""A third of the recording's frame rate: then each picture has a slot even if two come closer together than
they were captured, as from a publisher that waits for its machine."""


def tile(index: int, others: int) -> Rect:
    """The tile of one of the two people in a grid of 1280x720 with `others` who came later."""
    found = grid_rects(len(TONES_HZ) + others, Size(1280, 720))[index]
    return Rect(found.x, found.y, found.width, found.height)


def levels(path: Path, hz: float) -> NDArray[np.float64]:
    """The level of a tone in each window of the file."""
    heard = sound(path)
    wave, size = heard.samples.mean(axis=0), round(WINDOW_S * heard.sample_rate)
    windows = wave[: len(wave) // size * size].reshape(-1, size)
    turn = np.exp(-2j * np.pi * hz * np.arange(size) / heard.sample_rate)
    found: NDArray[np.float64] = np.abs(windows @ turn) * 2 / size
    return found


@dataclass(frozen=True, slots=True)
class Bystander:
    """A recording of two people, while somebody else in their room attacks it."""

    egress_id: str
    _watched: list[tuple[str, int, int]] = field(default_factory=list)

    @contextlib.contextmanager
    def loses_nothing(self, while_what: str) -> Iterator[None]:
        """Checks at the end that every picture sent meanwhile is in the file."""
        since_ns = time.time_ns()
        yield
        self._watched.append((while_what, since_ns, time.time_ns()))

    def lost(self, at_ns: Iterable[int]) -> dict[str, list[int]]:
        """The times, in unix ns, that lie in a watched period, among these times of missing media."""
        all_ns = list(at_ns)
        found = {
            what: [each for each in all_ns if since_ns <= each <= until_ns]
            for what, since_ns, until_ns in self._watched
        }
        return {what: lost for what, lost in found.items() if lost}


@contextlib.asynccontextmanager
async def composite_beside(
    service: Service,
    livekit: LivekitServer,
    others: contextlib.AbstractAsyncContextManager[object] | None = None,
    tiles: int = 0,
    options: str = "",
) -> AsyncIterator[Bystander]:
    """The composite of two people, with `options` as in X-Openegress-Options. It runs to its end, with their
    pictures in order. While it is watched, no picture and no sound is missing. `others` join before it
    begins, with this many `tiles`."""
    people = []
    for index, hz in enumerate(TONES_HZ):
        where = tile(index, tiles)
        video = VideoSpec(
            width=where.width, height=where.height, fps=FPS, kbps=500, colour=COLOURS[index], encoded=True
        )
        audio = AudioSpec(tone_hz=hz, level=LEVEL, beep_level=LEVEL)
        people.append(Publisher(livekit, ROOM, f"person {index}", video, audio))
    async with people[0], people[1], others or contextlib.nullcontext():
        request = {"room_name": ROOM, "layout": "grid", "file_outputs": [{"filepath": "bystander.mp4"}]}
        egress_id = (await service.call_with(options, "StartRoomCompositeEgress", **request))["egress_id"]
        await service.active(egress_id)
        bystander = Bystander(egress_id)
        yield bystander
        info = await service.finish(egress_id)
        dropped = [await each.dropped() for each in people]
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    path = location(info)
    facts = probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    assert facts.video is not None and facts.video.duration_s > facts.duration_s - 1
    for index, person in enumerate(people):
        read, sent_ns = counters(path, tile(index, tiles)), person.sent_ns()
        assert read.in_order and read.unreadable == 0, f"pictures of {person.identity}"
        lost = bystander.lost(sent_ns[each] for each in read.missing_of(sent_ns))
        assert sum(map(len, lost.values())) <= dropped[index], f"{person.identity}: {lost}, {dropped}"
        zero_ns = min(sent_ns[counter] - round(at_s * S) for at_s, counter in read.read if counter in sent_ns)
        quiet_ns = (zero_ns + round(at_s * S) for at_s in not_heard(path, TONES_HZ[index]))
        assert bystander.lost(quiet_ns) == {}, f"sound of {person.identity}"


@contextlib.asynccontextmanager
async def unharmed_recording(service: Service, pages: PageServer) -> AsyncIterator[None]:
    """A recording that runs meanwhile and stays complete: every picture in order, no hole in its sound."""
    request = {
        "url": pages.url("pattern.html?tone=1&busy=1"),
        "file_outputs": [{"filepath": "bystander.mp4"}],
    }
    egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
    await service.active(egress_id)
    yield
    info = await service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous
    assert counters(location(info)).in_order


def not_heard(path: Path, hz: float) -> list[float]:
    """When a person's tone is missing, in seconds, except for the 0.1 s when the beep replaces it."""
    heard = levels(path, hz)
    nearby = np.maximum(np.maximum(heard[:-2], heard[1:-1]), heard[2:])
    return [float(index + 1) * WINDOW_S for index in np.flatnonzero(nearby < LEVEL / 2)]


def check_sound(path: Path) -> None:
    """Checks that each person's tone lasts from beginning to end."""
    end_s = probe(path).duration_s - 3 * WINDOW_S
    for hz in TONES_HZ:
        assert [at_s for at_s in not_heard(path, hz) if 3 * WINDOW_S < at_s < end_s] == [], f"{hz} Hz"
