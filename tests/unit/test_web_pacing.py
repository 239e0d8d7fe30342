"""Slots of a constant frame rate for pictures that come when a page draws them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.units import MS
from openegress.source.web.pacing import FARTHEST, Pacer, Take, Wait

ORIGIN = 5_000 * MS


def run(fps: int, drawn_ms: list[float], end_ms: float) -> list[tuple[int, int]]:
    """Plays a page's drawing times to a pacer as the capture thread would; (slot, index of the picture)."""
    pacer = Pacer(fps, ORIGIN)
    slots = [(0, -1)]
    shown, waiting, wait_ns = -1, None, 0
    times = [ORIGIN + int(t * MS) for t in drawn_ms]
    index = 0
    while True:
        wake_ns = wait_ns if waiting is not None else pacer.due_ns()
        if index < len(times) and times[index] <= wake_ns:
            now_ns, waiting, index = times[index], index, index + 1
        else:
            now_ns = wake_ns
        if now_ns > ORIGIN + end_ms * MS:
            return slots
        if waiting is None:
            slots += [(slot, shown) for slot in pacer.repeats(now_ns)]
            continue
        filled = pacer.last
        match pacer.picture(times[waiting], now_ns):
            case Wait(until_ns):
                wait_ns = until_ns
            case Take(slot):
                slots += [(k, shown) for k in range(filled + 1, slot)]
                slots.append((slot, waiting))
                shown, waiting = waiting, None


def unique(slots: list[tuple[int, int]]) -> float:
    return len({picture for _, picture in slots}) / len(slots)


@pytest.mark.parametrize(
    ("fps", "period_ms", "phase_ms", "jitter_ms", "least"),
    [
        (30, 1000 / 30, 0.0, 0.0, 0.99),
        (30, 1000 / 30, 16.6, 0.0, 0.98),  # half-way between slots, where rounding loses pictures
        (30, 1000 / 30, 16.6, 6.0, 0.98),
        (30, 1000 / 30, 25.0, 10.0, 0.97),
        (30, 33.332, 10.0, 4.0, 0.98),
        (30, 33.36, 10.0, 4.0, 0.98),  # a clock 800 ppm off slips once in 40 s
        (60, 1000 / 60, 8.0, 3.0, 0.98),
        (30, 1000 / 60, 3.0, 2.0, 0.98),  # a page twice as fast
        (25, 1000 / 30, 3.0, 2.0, 0.98),
        (24, 1000 / 30, 3.0, 2.0, 0.97),
        (15, 1000 / 30, 3.0, 2.0, 0.98),
    ],
)
def test_pictures_get_slots_of_their_own(
    fps: int, period_ms: float, phase_ms: float, jitter_ms: float, least: int
) -> None:
    noise = random.Random(1)
    drawn = [
        phase_ms + k * period_ms + noise.uniform(-1, 1) * jitter_ms for k in range(int(40_000 / period_ms))
    ]
    drawn = sorted(t for t in drawn if t > 0)
    slots = run(fps, drawn, 39_000)
    assert unique(slots) >= least
    assert [slot for slot, _ in slots] == list(range(len(slots)))
    late_ms = [slot * 1000 / fps - drawn[picture] for slot, picture in slots if picture >= 0]
    assert abs(sum(late_ms) / len(late_ms)) <= 0.7 * 1000 / fps, "in sync on average"


def test_a_page_at_half_the_rate_shows_each_picture_twice() -> None:
    slots = run(30, [k * 1000 / 15 + 3 for k in range(150)], 9_900)
    assert unique(slots) == pytest.approx(0.5, abs=0.02)


def test_a_still_page_is_repeated_and_its_next_picture_comes_in_time() -> None:
    slots = run(30, [1010.0], 2000)
    assert [slot for slot, _ in slots] == list(range(len(slots)))
    first = next(slot for slot, picture in slots if picture == 0)
    assert abs(first * 1000 / 30 - 1010) <= 34


def test_a_page_that_stalls_and_recovers_is_in_step_again() -> None:
    times = [k * 1000 / 30 + 2 for k in range(60)]
    times += [times[-1] + 250 + k * 1000 / 30 for k in range(300)]
    slots = run(30, times, 11_000)
    late = [slot * 1000 / 30 - times[picture] for slot, picture in slots[-200:]]
    assert max(map(abs, late)) <= 25


@given(st.integers(0, 2**32), st.sampled_from([15, 30, 60]), st.floats(0.0, 60.0))
def test_no_picture_is_shown_long_before_it_was_drawn(seed: int, fps: int, held_ms: float) -> None:
    """Beside other work a page draws when it gets a core; its sound is where it was heard."""
    chance, period_ms = random.Random(seed), 1000 / fps
    drawn = sorted(5 + k * period_ms + chance.random() * held_ms for k in range(10 * fps))
    slots = run(fps, drawn, 10_500)
    firsts = {picture: slot for slot, picture in reversed(slots) if picture >= 0}
    early_ms = [drawn[picture] - slot * period_ms for picture, slot in firsts.items()]
    assert max(early_ms) <= (FARTHEST + 0.01) * period_ms


def test_a_capture_that_was_held_up_fills_the_slots_it_missed() -> None:
    pacer = Pacer(30, 0)
    assert pacer.picture(10 * MS, 10 * MS) == Take(1)
    assert pacer.picture(500 * MS, 500 * MS) == Take(15)


def test_the_end_fills_up_to_the_last_slot() -> None:
    pacer = Pacer(30, 0)
    assert pacer.until(1_000 * MS) == range(1, 31)
    assert pacer.until(1_000 * MS) == range(31, 31)


def test_times_of_slots_do_not_add_up_rounding_errors() -> None:
    pacer = Pacer(30, 0)
    assert [pacer.pts_ns(k) for k in (0, 1, 2, 3, 90_000)] == [
        0,
        33_333_333,
        66_666_666,
        100_000_000,
        3 * 10**12,
    ]


@given(
    st.sampled_from([15, 24, 25, 30, 50, 60]),
    st.lists(st.floats(0.1, 300.0), max_size=60),
)
def test_slots_rise_by_one_whatever_the_page_does(fps: int, gaps_ms: list[int]) -> None:
    times, at = [], 0.0
    for gap in gaps_ms:
        at += gap
        times.append(at)
    slots = run(fps, times, at + 200)
    assert [slot for slot, _ in slots] == list(range(len(slots)))
    assert len(slots) == pytest.approx((at + 200) * fps / 1000, abs=3)
    shown = [picture for _, picture in slots]
    assert shown == sorted(shown)
    assert not times or shown[-1] == len(times) - 1, "the last picture is always shown"
