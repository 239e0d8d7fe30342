"""Slots and the horizon: when pictures and sound are given out."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.source.room.clock import MIN_STEP_NS, Horizon, Phase, Slots, is_left_out
from openegress.source.room.lanes import Waiting

MS = 1_000_000
NS = 1_000_000_000
FAR = 1 << 62


@pytest.mark.parametrize(
    ("rate", "number", "at_ns"),
    [(30, 0, 0), (30, 1, 33_333_333), (30, 3, 100 * MS), (30, 108_000, 3600 * NS), (50, 7, 140 * MS)],
)
def test_slots_do_not_drift(rate: int, number: int, at_ns: int) -> None:
    assert Slots(rate).at_ns(number) == at_ns


@pytest.mark.parametrize(
    ("complete_ns", "limit_ns", "expected_ns"),
    [
        (4970 * MS, FAR, 4970 * MS),  # all are there: no waiting
        (5100 * MS, FAR, 5000 * MS),  # nothing is given out before its time
        (4960 * MS, FAR, 4960 * MS),  # one track is behind
        (1000 * MS, FAR, 4955 * MS),  # and is not waited for any longer
        (4970 * MS, 4952 * MS, 4952 * MS),  # a new track's first frames are
    ],
)
def test_horizon(complete_ns: int, limit_ns: int, expected_ns: int) -> None:
    horizon = Horizon()
    horizon.ns = 4950 * MS
    horizon.advance(4950 * MS, 0, 45 * MS, 4950 * MS)
    assert horizon.advance(5000 * MS, complete_ns, 45 * MS, limit_ns) == expected_ns


@pytest.mark.parametrize(("step_ms", "gained_ms"), [(10, 20), (33, 66), (500, 2 * MIN_STEP_NS // MS)])
def test_horizon_catches_up_no_faster_than_an_encoder_can(step_ms: int, gained_ms: int) -> None:
    horizon = Horizon()
    horizon.advance(3000 * MS, 0, 1000 * MS, 0)
    now = range(3000 + step_ms, 3000 + 11 * step_ms, step_ms)
    reached = [horizon.advance(at * MS, at * MS, 1000 * MS, FAR) for at in now]
    assert reached == [gained_ms * MS * n for n in range(1, 11)]


def test_horizon_keeps_pace_however_seldom_it_is_advanced() -> None:
    horizon = Horizon(200 * MS)
    reached = [horizon.advance(at * MS, at * MS, 1000 * MS, FAR) for at in range(200, 10_200, 200)]
    assert reached[1:] == [at * MS for at in range(400, 10_200, 200)]


def test_horizon_is_back_at_the_present_after_catching_up() -> None:
    horizon = Horizon()
    horizon.advance(3000 * MS, 0, 1000 * MS, 0)
    for now in range(3033, 6200, 33):
        horizon.advance(now * MS, now * MS, 1000 * MS, FAR)
    assert horizon.ns == now * MS


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10_000), st.integers(0, 10_000))))
def test_horizon_never_goes_back_nor_ahead(steps: list[tuple[int, int, int]]) -> None:
    horizon, now_ns, last_ns = Horizon(), 0, 0
    for step_ms, complete_ms, limit_ms in steps:
        now_ns += step_ms * MS
        reached_ns = horizon.advance(now_ns, complete_ms * MS, 1000 * MS, limit_ms * MS)
        assert last_ns <= reached_ns <= now_ns
        last_ns = reached_ns


def test_a_track_is_waited_for_until_it_delivers() -> None:
    waiting = Waiting()
    waiting.begin(100, 1000)
    waiting.begin(200, 5000)
    assert waiting.since(300) == 100
    assert waiting.since(1101) is None
    waiting.delivered()
    waiting.begin(400, 1000)
    assert waiting.since(500) is None
    waiting.again(600, 200)
    assert waiting.since(700) == 600
    assert waiting.since(801) is None


@settings(deadline=None)  # three hundred frames each: a busy machine takes its time
@given(st.integers(0, 33_333_332), st.lists(st.integers(-4, 4), min_size=300, max_size=300))
def test_each_slot_finds_its_picture_whatever_the_phase(start_ns: int, jitter_ms: list[int]) -> None:
    """A camera of the recording's rate, whose times jitter by an eighth of a slot."""
    slots, phase = Slots(30), Phase(30)
    # The first picture is as good as any: its jitter is the phase's error.
    captured = [start_ns + slots.at_ns(n) + (jitter * MS if n else 0) for n, jitter in enumerate(jitter_ms)]
    for at_ns in captured:
        phase.observe(at_ns)
    assert phase.bias_ns is not None and 0 <= phase.bias_ns < slots.at_ns(1)
    shown = [sum(at <= slots.at_ns(n) + phase.bias_ns for at in captured) for n in range(2, 290)]
    assert all(b - a == 1 for a, b in pairwise(shown))


def test_a_phase_that_wanders_is_followed() -> None:
    """A camera that is 500 ppm fast goes through a whole slot in 67 s: one picture is left out then."""
    phase, biases = Phase(30), []
    for n in range(4000):
        phase.observe(n * 33_316_667)
        biases.append(phase.bias_ns)
    assert 2 <= len(set(biases)) <= 6


@pytest.mark.parametrize(
    ("behind_ms", "given"),
    [
        (0, "11111111"),
        (3000, "11111111"),
        (3001, "10101010"),
        (6000, "10101010"),
        (6001, "10001000"),
        (9001, "10000000"),
    ],
)
def test_pictures_are_left_out_when_the_encoder_falls_behind(behind_ms: int, given: str) -> None:
    assert "".join("01"[not is_left_out(number, behind_ms * MS)] for number in range(8)) == given
