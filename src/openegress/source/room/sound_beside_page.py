"""Combines a page's picture with the room's own sound: a page's mixed sound cannot be separated into
channels."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from openegress.core.pause_mode import PauseMode
from openegress.core.tasks import cancelled
from openegress.core.units import MS
from openegress.media import FrameSink
from openegress.source import Pausable, Source, SourceEvent, SourceStats
from openegress.source.pause_timeline import PausedSound, PauseTimeline
from openegress.source.playout import PlayoutDelays, PlayoutWaits
from openegress.source.room.frames_source import RoomFrameSource

LOOK_S = 1.0
SETTLING_S = (0.4, 0.3)
"""A page that has just begun still fills its buffer. Sound is given out this much later, but is right from
its start: a running track moves by at most 4 ms a second."""
STEADY_NS = 10 * MS
"""Smaller changes of the buffer are ignored, because each step is audible."""


class PictureSource(Source, Pausable, Protocol):
    pauses: PauseTimeline
    """Pauses in its media."""

    async def waits(self) -> PlayoutWaits:
        """How long media has waited in the page before it was played."""


class SoundBesidePage:
    """Implements source.Source. Owns both parts, which are in the same room as two participants."""

    def __init__(self, page: PictureSource, sound: RoomFrameSource) -> None:
        """`page` captures sound too, which is dropped: a page without a taker of its sound shows pictures 0.3
        s late, and increasingly so. `sound` has joined and gives no picture."""
        self._page = page
        self._sound = sound
        self._delays = PlayoutDelays()
        self._delay_ns = 0
        self._begin_sound: Callable[[], None] | None = None
        """Set by start() until sound has begun."""
        self._following: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[SourceEvent | None] = asyncio.Queue()

    async def prepare(self) -> None:
        tasks = [asyncio.create_task(part.prepare()) for part in (self._page, self._sound)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            await cancelled(*tasks)
        self._delays.look(await self._page.waits())

    async def start(self, sink: FrameSink) -> int:
        zero_ns = await self._page.start(_PicturesTo(sink))
        # The page stays in the room while it is paused, and so does the sound.
        paused = PausedSound(sink, self._page.pauses)
        self._begin_sound = lambda: self._sound.start_since(paused, time.time_ns() - zero_ns)
        self._following = asyncio.create_task(self._follow(), name="page delay")
        return zero_ns

    async def pause(self, mode: PauseMode) -> int:
        return await self._page.pause(mode)

    async def resume(self) -> int:
        return await self._page.resume()

    async def events(self) -> AsyncIterator[SourceEvent]:
        readers = [asyncio.create_task(self._read(part)) for part in (self._page, self._sound)]
        try:
            ended = 0
            while ended < len(readers):
                event = await self._events.get()
                if event is None:
                    ended += 1
                else:
                    yield event
        finally:
            await cancelled(*readers)

    async def stop(self) -> None:
        self._begin_once()
        await _both(self._page.stop(), self._sound.stop())

    async def close(self) -> None:
        await cancelled(self._following)
        await _both(self._page.close(), self._sound.close())

    def now_ns(self) -> int:
        return self._page.now_ns()

    def stats(self) -> SourceStats:
        page = self._page.stats()
        losses = self._sound.stats().losses
        return SourceStats(page.frames, page.unique_frames, page.dropped_frames, losses)

    async def _follow(self) -> None:
        for wait_s in SETTLING_S:
            await asyncio.sleep(wait_s)
            await self._look()
        self._begin_once()
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    def _begin_once(self) -> None:
        if self._begin_sound is not None:
            self._begin_sound()
            self._begin_sound = None

    async def _look(self) -> None:
        self._delays.look(await self._page.waits())
        delay_ns = self._delays.seen_ns
        if delay_ns is not None and abs(delay_ns - self._delay_ns) > STEADY_NS:
            self._delay_ns = delay_ns
            self._sound.delay(delay_ns)

    async def _read(self, part: Source) -> None:
        try:
            async for event in part.events():
                self._events.put_nowait(event)
        finally:
            self._events.put_nowait(None)


class _PicturesTo:
    """A FrameSink for the page."""

    def __init__(self, sink: FrameSink) -> None:
        self.video = sink.video
        self.resumed = sink.resumed

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Drops the sound: the room's sound replaces it."""


async def _both(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    """Awaits both, whatever happens to one of them. Raises the first failure."""
    for result in await asyncio.gather(first, second, return_exceptions=True):
        if result is not None:
            raise result
