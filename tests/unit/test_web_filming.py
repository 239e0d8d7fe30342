"""Which picture a page's recording shows in each slot, with pauses."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import av
import pytest

from openegress.core.pause_mode import PauseMode
from openegress.core.units import MS, S
from openegress.source.card_picture import card_picture
from openegress.source.pause_timeline import PauseTimeline
from openegress.source.web.damage import OLDEST_MS, drawn_ns
from openegress.source.web.filming import Filming
from openegress.source.web.pacing import Pacer

FPS = 30
ORIGIN_NS = 7 * S
PAGE_PERIOD_NS = S // FPS


@dataclass
class Display:
    """In place of a framebuffer: each picture tells when it was grabbed."""

    now_ns: int = ORIGIN_NS
    width: int = 64
    height: int = 36
    grabbed: list[int] = field(default_factory=list)

    newer: list[int] = field(default_factory=list)
    """When it is drawn on while it is grabbed, once each."""

    def drawn_meanwhile(self) -> int | None:
        if not self.newer:
            return None
        self.now_ns = self.newer.pop(0)
        return self.now_ns

    def grab(self) -> av.VideoFrame:
        self.grabbed.append(self.now_ns)
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        frame.pts = self.now_ns
        return frame


@dataclass
class Shown:
    """(slot's time, when that was grabbed); None: the card."""

    pictures: list[tuple[int, int | None]] = field(default_factory=list)

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        assert not self.pictures or pts_ns > self.pictures[-1][0]
        self.pictures.append((pts_ns, frame.pts))

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None: ...

    def resumed(self, pts_ns: int, paused_ns: int) -> None: ...


def film(
    pauses: list[tuple[int, int]], mode: PauseMode, *, end_ns: int, phase_ns: int = 5 * MS, moves: bool = True
) -> tuple[Shown, Display, PauseTimeline]:
    """A page that draws at the recording's rate, filmed as the thread does, a millisecond at a time."""
    display, shown, timeline = Display(), Shown(), PauseTimeline()
    filming = Filming(
        shown, display, Pacer(FPS, ORIGIN_NS), lambda width, height: av.VideoFrame(width, height, "yuv420p")
    )
    drawn = 0
    for at_ns in range(0, end_ns, MS):
        display.now_ns = ORIGIN_NS + at_ns
        for begin_ns, stop_ns in pauses:
            if begin_ns <= at_ns < stop_ns and timeline.begins_ns is None:
                timeline.begin(at_ns, mode)
            elif stop_ns == at_ns:
                timeline.pauses = timeline.ended(at_ns)
        if timeline.begins_ns is None:
            if filming.is_paused:
                filming.resume(timeline.left_out_ns)
        elif at_ns >= timeline.begins_ns and not filming.is_paused:
            filming.pause(mode, timeline.recorded_ns(timeline.begins_ns))
        if moves and at_ns >= drawn * PAGE_PERIOD_NS + phase_ns:
            drawn += 1
            filming.drawn(display.now_ns)
        filming.fill(display.now_ns)
    filming.end(ORIGIN_NS + end_ns)
    return shown, display, timeline


PAUSES = [(1000 * MS, 2510 * MS), (3333 * MS, 3400 * MS), (3500 * MS, 4700 * MS)]


@pytest.mark.parametrize("phase_ms", [0, 5, 16, 25, 33])
def test_slots_have_no_hole_and_pictures_are_those_of_their_time(phase_ms: int) -> None:
    shown, display, timeline = film(PAUSES, PauseMode.CUT, end_ns=6 * S, phase_ns=phase_ms * MS)
    assert [pts_ns for pts_ns, _ in shown.pictures] == [k * S // FPS for k in range(len(shown.pictures))]
    recorded_ns = timeline.recorded_ns(6 * S)
    assert recorded_ns == 6 * S - timeline.left_out_ns
    assert abs(len(shown.pictures) * S // FPS - recorded_ns) <= PAGE_PERIOD_NS
    for pts_ns, grabbed_ns in shown.pictures:
        assert grabbed_ns is not None
        # The last picture before a pause may be in the slot where the pause was: pages are a little ahead.
        of_slot = (
            timeline.pauses.source_ns(pts_ns),
            timeline.pauses.source_ns(max(0, pts_ns - PAGE_PERIOD_NS)),
        )
        assert min(abs(grabbed_ns - ORIGIN_NS - at_ns) for at_ns in of_slot) < 1.5 * PAGE_PERIOD_NS
    assert_nothing_grabbed(display, timeline)


def assert_nothing_grabbed(display: Display, timeline: PauseTimeline) -> None:
    for begin_ns, end_ns in timeline.pauses.ranges:
        assert end_ns is not None
        seen = [at_ns - ORIGIN_NS for at_ns in display.grabbed]
        # The thread is told that a pause ends up to a block of sound before it does.
        assert not [at_ns for at_ns in seen if begin_ns + MS < at_ns < end_ns - 20 * MS]


def test_a_page_that_stands_still_is_looked_at_again_after_a_pause() -> None:
    shown, display, timeline = film(PAUSES[:1], PauseMode.CUT, end_ns=4 * S, moves=False)
    assert len(display.grabbed) == 2
    ((_, end_ns),) = timeline.pauses.ranges
    assert end_ns is not None
    assert 0 <= display.grabbed[1] - ORIGIN_NS - (end_ns - 20 * MS) < 3 * PAGE_PERIOD_NS
    resumed_ns = timeline.pauses.resumed_ns(0)
    assert {grabbed for pts_ns, grabbed in shown.pictures if pts_ns >= resumed_ns} == {display.grabbed[1]}


def test_a_held_pause_shows_the_card_in_each_slot() -> None:
    shown, display, timeline = film(PAUSES, PauseMode.HOLD, end_ns=6 * S)
    assert [pts_ns for pts_ns, _ in shown.pictures] == [k * S // FPS for k in range(6 * FPS + 1)]
    for pts_ns, grabbed_ns in shown.pictures:
        for begin_ns, end_ns in timeline.pauses.ranges:
            assert end_ns is not None
            if begin_ns + PAGE_PERIOD_NS <= pts_ns < end_ns - 2 * PAGE_PERIOD_NS:
                assert grabbed_ns is None
            elif grabbed_ns is None:
                assert any(
                    b <= pts_ns < e + PAGE_PERIOD_NS for b, e in timeline.pauses.ranges if e is not None
                )
    assert_nothing_grabbed(display, timeline)


def test_one_that_ends_while_paused_has_what_came_before() -> None:
    shown, _, timeline = film([(S, 9 * S)], PauseMode.CUT, end_ns=3 * S)
    assert timeline.begins_ns == S
    assert len(shown.pictures) == pytest.approx(FPS, abs=1)


def test_the_card_fills_the_picture() -> None:
    card = card_picture(640, 360)
    assert (card.width, card.height, card.format.name) == (640, 360, "yuv420p")
    luma = card.to_ndarray()[:360]
    assert luma.min() < 60 and luma.max() > 200  # dark, with light words


def test_what_is_drawn_while_it_is_grabbed_has_the_time_of_the_newer_picture() -> None:
    """The thread may lose its core before it grabs: rows are then of two pictures."""
    display, shown = Display(newer=[ORIGIN_NS + 70 * MS, ORIGIN_NS + 103 * MS]), Shown()
    filming = Filming(shown, display, Pacer(FPS, ORIGIN_NS), lambda width, height: av.VideoFrame(64, 36))
    display.now_ns = ORIGIN_NS + 36 * MS
    filming.drawn(display.now_ns)
    filming.fill(ORIGIN_NS + 110 * MS)
    first_ns = shown.pictures[0][1]
    assert [(pts_ns // MS, grabbed_ns) for pts_ns, grabbed_ns in shown.pictures] == [
        *((at_ms, first_ns) for at_ms in (0, 33, 66)),
        (100, ORIGIN_NS + 103 * MS),
    ]
    assert filming.stats.dropped_frames == 2


def test_a_page_that_always_draws_is_shown() -> None:
    display, shown = Display(newer=[ORIGIN_NS + at_ms * MS for at_ms in (34, 35, 36, 37)]), Shown()
    filming = Filming(shown, display, Pacer(FPS, ORIGIN_NS), lambda width, height: av.VideoFrame(64, 36))
    filming.drawn(ORIGIN_NS + 33 * MS)
    filming.fill(ORIGIN_NS + 40 * MS)
    assert [pts_ns // MS for pts_ns, _ in shown.pictures] == [0, 33]
    assert shown.pictures[1][1] == ORIGIN_NS + 36 * MS


@pytest.mark.parametrize("late_ms", [5, 40, 90])
def test_a_thread_that_runs_late_leaves_pictures_in_their_slots(late_ms: int) -> None:
    """Beside other work it looks when it gets a core; what it then finds was drawn when it was drawn."""
    chance = random.Random(late_ms)
    display, shown = Display(), Shown()
    card = av.VideoFrame(64, 36, "yuv420p")
    filming = Filming(shown, display, Pacer(FPS, ORIGIN_NS), lambda width, height: card)
    drawn, at_ns = 0, 0
    while at_ns < 20 * S:
        at_ns += chance.randrange(1, late_ms) * MS
        newest = (at_ns - 5 * MS) // PAGE_PERIOD_NS
        if newest > drawn:
            drawn = newest
            display.now_ns = ORIGIN_NS + drawn * PAGE_PERIOD_NS + 5 * MS
            filming.drawn(display.now_ns)
        filming.fill(ORIGIN_NS + at_ns)
    off_ms = [
        (pts_ns - (shown_ns - ORIGIN_NS)) / MS
        for (_, before), (pts_ns, shown_ns) in pairwise(shown.pictures)
        if shown_ns is not None and shown_ns != before
    ]
    assert len(off_ms) > 150
    assert max(off_ms) - min(off_ms) < 1000 / FPS + 1, "within one slot of each other"


@pytest.mark.parametrize(
    ("timestamp_ms", "now_ns", "at_ns"),
    [
        (1_000, 1_090_200_000, 1_000_500_000),
        (1_000, 1_000_200_000, 1_000_200_000),
        (2**32 - 10, (2**32 + 30) * MS, (2**32 - 10) * MS + 500_000),
        (5, (2**32 + 30) * MS, (2**32 + 5) * MS + 500_000),
        (1_000, (1_001 + OLDEST_MS) * MS, (1_001 + OLDEST_MS) * MS),
        (5_000, 1_000 * MS, 1_000 * MS),
    ],
    ids=["late", "now", "before it wraps", "after it wraps", "too old", "to come"],
)
def test_the_time_of_a_display(timestamp_ms: int, now_ns: int, at_ns: int) -> None:
    assert drawn_ns(timestamp_ms, now_ns) == at_ns
