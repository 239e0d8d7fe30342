"""A page's sound, moved to where its picture is by what the browser measures."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from openegress.core.units import MS
from openegress.media import FrameSink
from openegress.source.playout import (
    AHEAD_NS,
    DRAWN_NS,
    LONGEST_NS,
    PLAYED_NS,
    SHOWN_NS,
    PlayoutDelays,
    PlayoutWaits,
    Waits,
)
from openegress.source.web import page_sound
from openegress.source.web.page_sound import FARTHEST_NS, STEADY_NS, PageSound


@pytest.mark.parametrize(
    ("before", "now", "mean_ns"),
    [
        (Waits(), Waits(1.0, 10), 100 * MS),
        (Waits(1.0, 10), Waits(4.0, 20), 300 * MS),
        (Waits(1.0, 10), Waits(1.0, 10), None),
        (Waits(9.0, 90), Waits(0.5, 10), 50 * MS),  # it counts anew
        (Waits(9.0, 90), Waits(), None),
        (Waits(), Waits(1e9, 1), LONGEST_NS),
        (Waits(5.0, 1), Waits(1.0, 2), 0),
    ],
)
def test_the_mean_of_what_came_since(before: Waits, now: Waits, mean_ns: int | None) -> None:
    assert now.since(before) == mean_ns


def test_what_is_measured_closest_to_the_end_counts() -> None:
    delays = PlayoutDelays()
    assert (delays.shown_ns, delays.heard_ns, delays.seen_ns) == (None, None, None)
    said = PlayoutWaits(sound=Waits(0.4, 10))
    delays.look(said)
    heard_ns = 40 * MS + PLAYED_NS - AHEAD_NS
    assert (delays.shown_ns, delays.heard_ns, delays.seen_ns) == (None, heard_ns, heard_ns)
    said = replace(said, pictures=Waits(0.1, 10), sound=Waits(0.8, 20), played=Waits(0.3, 10))
    delays.look(said)
    assert (delays.shown_ns, delays.heard_ns) == (10 * MS + SHOWN_NS, 70 * MS - AHEAD_NS)
    said = replace(said, pictures=Waits(0.2, 20), shown=Waits(0.25, 10))
    delays.look(said)
    assert delays.shown_ns == delays.seen_ns == 25 * MS + DRAWN_NS
    assert delays.heard_ns == 70 * MS - AHEAD_NS, "no sound came since"


@dataclass
class Page:
    """Says that its pictures and sound waited for so long."""

    shown_ms: float = 30.0
    heard_ms: float = 0.0
    rises_ms: float = 0.0
    """`heard_ms`, with each look."""
    looks: int = 0
    """So many pictures and samples have come, ten for each time it was asked."""
    said: PlayoutWaits = field(default_factory=PlayoutWaits)
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    plays: bool = True
    never: asyncio.Event | None = None
    """Waited for before it answers."""

    async def waits(self, is_template: bool) -> PlayoutWaits:
        self.looked.set()
        if self.never is not None:
            await self.never.wait()
        if not self.plays:
            return PlayoutWaits()
        self.heard_ms += self.rises_ms
        shown, sound = self.said.shown, self.said.sound
        self.said = PlayoutWaits(
            shown=Waits(shown.seconds + self.shown_ms / 100, shown.count + 10),
            sound=Waits(sound.seconds + self.heard_ms / 100, sound.count + 10),
        )
        return self.said

    async def is_asked(self) -> None:
        for _ in range(2):  # what it said at the first of them has been taken then
            self.looked.clear()
            await self.looked.wait()

    def wanted_ns(self) -> int:
        return round((self.shown_ms - self.heard_ms) * MS) + DRAWN_NS - PLAYED_NS + AHEAD_NS


@dataclass
class Capture:
    delay_ns: int = -10 * MS
    off_ns: int = 0
    began_with_ns: int | None = None
    stopped: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, sink: FrameSink, zero_ns: int) -> None:
        self.began_with_ns = self.delay_ns
        self.began.set()

    async def stop(self, end_ns: int) -> None:
        assert self.began_with_ns is not None, "it has sound to deliver"
        self.stopped = True


def page_sound_of(page: Page, monkeypatch: pytest.MonkeyPatch) -> tuple[Capture, PageSound]:
    monkeypatch.setattr(page_sound, "SETTLE_S", 0.0)
    monkeypatch.setattr(page_sound, "LOOK_S", 0.0)
    capture = Capture()
    return capture, PageSound(capture, page, is_template=False)  # type: ignore[arg-type]


async def test_sound_begins_where_it_belongs_and_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(heard_ms=60)
    capture, sound = page_sound_of(page, monkeypatch)
    sound.start(None, 0)  # type: ignore[arg-type]
    await page.is_asked()
    await page.is_asked()
    assert capture.began_with_ns == capture.delay_ns == page.wanted_ns()
    page.heard_ms += STEADY_NS / MS / 2
    await page.is_asked()
    assert capture.delay_ns == capture.began_with_ns, "so little is not followed"
    page.heard_ms += 40
    await page.is_asked()
    assert capture.delay_ns == page.wanted_ns()
    await sound.stop(0)
    assert capture.stopped


async def test_a_buffer_that_fills_at_first_is_followed_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look a second would be behind it for as long as it fills."""
    page = Page(shown_ms=400, heard_ms=60)
    capture, sound = page_sound_of(page, monkeypatch)
    monkeypatch.setattr(page_sound, "LOOK_S", 3600.0)
    sound.start(None, 0)  # type: ignore[arg-type]
    await page.is_asked()
    page.rises_ms = 20
    for _ in range(page_sound.FIRST_LOOKS // 4):
        await page.is_asked()
        assert capture.delay_ns == page.wanted_ns() - 20 * MS, "as it will be until the next look"
    await sound.stop(0)


async def test_what_would_be_cut_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(heard_ms=60)
    capture, sound = page_sound_of(page, monkeypatch)
    sound.start(None, 0)  # type: ignore[arg-type]
    await page.is_asked()
    await page.is_asked()
    before_ns = capture.delay_ns
    capture.off_ns = -FARTHEST_NS
    page.heard_ms += 500
    await page.is_asked()
    assert capture.delay_ns == before_ns, "the sound is not there yet"
    await sound.stop(0)


async def test_a_page_that_plays_no_webrtc_keeps_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(plays=False)
    capture, sound = page_sound_of(page, monkeypatch)
    sound.start(None, 0)  # type: ignore[arg-type]
    await page.is_asked()
    assert capture.began_with_ns == capture.delay_ns == -10 * MS
    await sound.stop(0)


async def test_a_page_that_does_not_answer_does_not_hold_up_its_sound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page()
    capture, sound = page_sound_of(page, monkeypatch)
    monkeypatch.setattr(page_sound, "BUSY_S", 0.01)
    page.never = asyncio.Event()
    sound.start(None, 0)  # type: ignore[arg-type]
    await capture.began.wait()
    assert capture.began_with_ns == -10 * MS
    await sound.stop(0)


async def test_one_that_ends_at_once_delivers_its_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, sound = page_sound_of(Page(), monkeypatch)
    sound.start(None, 0)  # type: ignore[arg-type]
    await sound.stop(0)
    assert capture.stopped
