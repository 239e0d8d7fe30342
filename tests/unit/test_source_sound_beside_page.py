"""A page's picture beside the room's sound: what each part's fate means for both."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from openegress.core.errors import EgressError, internal
from openegress.core.pause_mode import PauseMode
from openegress.core.units import MS, S
from openegress.media import FrameSink
from openegress.source import Closed, SourceEvent, SourceStats
from openegress.source.pause_timeline import PauseTimeline
from openegress.source.playout import LONGEST_NS, SHOWN_NS, PlayoutWaits, Waits
from openegress.source.room import sound_beside_page
from openegress.source.room.sound_beside_page import STEADY_NS, SoundBesidePage


class Part:
    """A page, or a room's sound, that does what a test says."""

    def __init__(self) -> None:
        self.prepared = asyncio.Event()
        self.prepare_fails: EgressError | None = None
        self.stopped = self.closed = self.cancelled = False
        self.stop_fails = False
        self.told: asyncio.Queue[SourceEvent | None] = asyncio.Queue()
        self.buffer = (0.0, 0)
        self.delays: list[int] = []
        self.since_ns = -1
        self.pauses = PauseTimeline()
        self.sound_sink: FrameSink | None = None

    async def prepare(self) -> None:
        if self.prepare_fails is not None:
            raise self.prepare_fails
        try:
            await self.prepared.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def start(self, sink: FrameSink) -> int:
        return 0

    def start_since(self, sink: FrameSink, since_ns: int) -> None:
        self.since_ns, self.sound_sink = since_ns, sink

    def delay(self, by_ns: int) -> None:
        self.delays.append(by_ns)

    async def pause(self, mode: PauseMode) -> int:
        return self.pauses.begin(S, mode)

    async def resume(self) -> int:
        self.pauses.pauses = self.pauses.ended(2 * S)
        return 2 * S

    async def waits(self) -> PlayoutWaits:
        return PlayoutWaits(pictures=Waits(*self.buffer))

    async def events(self) -> AsyncIterator[SourceEvent]:
        while (event := await self.told.get()) is not None:
            yield event

    async def stop(self) -> None:
        self.stopped = True
        if self.stop_fails:
            raise internal("it did not stop")

    async def close(self) -> None:
        self.closed = True
        self.told.put_nowait(None)

    def stats(self) -> SourceStats:
        return SourceStats()


class Nowhere:
    def video(self, frame: object, pts_ns: int) -> None: ...

    def __init__(self) -> None:
        self.samples = 0

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.samples += len(samples) // 4

    def resumed(self, pts_ns: int, paused_ns: int) -> None: ...


def both() -> tuple[Part, Part, SoundBesidePage]:
    page, sound = Part(), Part()
    return page, sound, SoundBesidePage(page, sound)  # type: ignore[arg-type]


async def test_what_fails_ends_the_wait_for_the_other() -> None:
    page, sound, source = both()
    sound.prepare_fails = internal("no such room")
    with pytest.raises(EgressError, match="no such room"):
        await source.prepare()
    assert page.cancelled
    await source.close()
    assert page.closed and sound.closed


async def test_events_of_both_until_both_are_closed() -> None:
    page, sound, source = both()
    page.told.put_nowait(Closed())
    sound.told.put_nowait(Closed())
    events = source.events()
    assert [await anext(events), await anext(events)] == [Closed(), Closed()]
    await source.close()
    assert [event async for event in events] == []


async def test_one_that_does_not_stop_does_not_keep_the_other_going() -> None:
    page, sound, source = both()
    page.stop_fails = True
    with pytest.raises(EgressError, match="did not stop"):
        await source.stop()
    assert page.stopped and sound.stopped


async def test_the_sound_waits_as_long_as_the_page_holds_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    page, sound, source = both()
    page.prepared.set()
    sound.prepared.set()
    page.buffer = (1.0, 10)
    await source.prepare()
    monkeypatch.setattr(sound_beside_page, "SETTLING_S", ())
    monkeypatch.setattr(sound_beside_page, "LOOK_S", 3600.0)
    page.buffer = (1.0 + 3.0, 10 + 10)
    await source.start(Nowhere())
    await source._look()
    assert sound.since_ns == -1, "the page still fills its buffer"
    await source.stop()
    assert sound.since_ns > 0
    assert sound.delays == [300 * MS + SHOWN_NS], "of the pictures since it was last asked"
    for seconds, count, told in (
        (3.0 + STEADY_NS / 2e9, 10, False),  # no step for so little
        (0.0, 0, False),  # nothing was shown
        (5.0, 10, True),
        (1e9, 1, True),
        (-1e9, 1, True),
    ):
        page.buffer = (page.buffer[0] + seconds, page.buffer[1] + count)
        before = len(sound.delays)
        await source._look()
        assert (len(sound.delays) > before) is told
    assert sound.delays[1:] == [500 * MS + SHOWN_NS, LONGEST_NS + SHOWN_NS, SHOWN_NS]
    await source.close()


async def test_the_sound_leaves_out_what_the_page_does() -> None:
    page, sound, source = both()
    page.prepared.set()
    sound.prepared.set()
    await source.prepare()
    sink = Nowhere()
    await source.start(sink)
    assert await source.pause(PauseMode.CUT) == S
    assert await source.resume() == 2 * S
    await source.stop()
    assert sound.sound_sink is not None
    sound.sound_sink.audio(bytes(4 * 3 * 48_000), 0, 48_000)
    assert sink.samples == 2 * 48_000
    await source.close()
