"""Slots and the horizon: when pictures and sound are given out."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.units import MS, S
from openegress.source.room.clock import DueLine, Horizon, SlotPhase, Slots, is_left_out


@pytest.mark.parametrize(
    ("rate", "number", "at_ns"),
    [(30, 0, 0), (30, 1, 33_333_333), (30, 3, 100 * MS), (30, 108_000, 3600 * S), (50, 7, 140 * MS)],
)
def test_slots_do_not_drift(rate: int, number: int, at_ns: int) -> None:
    assert Slots(rate).at_ns(number) == at_ns


@pytest.mark.parametrize(
    ("complete_ns", "expected_ns"),
    [
        (4970 * MS, 4970 * MS),  # all are there: no waiting
        (5100 * MS, 5000 * MS),  # nothing is given out before its time
        (4960 * MS, 4960 * MS),  # one track is behind
        (1000 * MS, 4950 * MS),  # nothing is taken back
    ],
)
def test_horizon(complete_ns: int, expected_ns: int) -> None:
    horizon = Horizon()
    horizon.ns = 4950 * MS
    horizon.advance(4950 * MS, 4950 * MS)
    assert horizon.advance(5000 * MS, complete_ns) == expected_ns


@pytest.mark.parametrize(("step_ms", "gained_ms"), [(10, 20), (33, 66), (60, 120)])
def test_horizon_catches_up_no_faster_than_an_encoder_can(step_ms: int, gained_ms: int) -> None:
    horizon = Horizon()
    horizon.advance(700 * MS, 0)
    now = range(700 + step_ms, 700 + 6 * step_ms, step_ms)
    reached = [horizon.advance(at * MS, at * MS) for at in now]
    assert reached == [gained_ms * MS * n for n in range(1, 6)]


@pytest.mark.parametrize("complete_ms", [2500, 2000, 1500])
def test_horizon_does_not_dwell_on_what_is_too_old_to_be_drawn(complete_ms: int) -> None:
    horizon = Horizon()
    horizon.advance(33 * MS, 0)
    assert horizon.advance(3000 * MS, complete_ms * MS) == min(complete_ms, 2000) * MS


def test_a_beginning_that_was_waited_for_loses_no_picture() -> None:
    """Somebody has announced a track and sends nothing of it: recordings wait for it once, for a while."""
    due, horizon, slots, given = DueLine(), Horizon(), Slots(30), 0
    due.begin(2000 * MS, 0)
    for now_ms in range(2000, 6000, 33):
        due_ns = due.at(now_ms * MS, now_ms * MS)
        reached_ns = horizon.advance(due_ns, (now_ms - 500) * MS)
        while slots.next_ns < reached_ns:
            given += not is_left_out(slots.next, due_ns - slots.next_ns, due_ns - reached_ns)
            slots.next += 1
    assert given == slots.next > 140


@given(st.integers(0, 5000), st.lists(st.integers(0, 200), min_size=1))
def test_what_a_beginning_waited_for_is_due_at_twice_its_pace(waited_ms: int, steps_ms: list[int]) -> None:
    due = DueLine()
    due.begin(waited_ms * MS, 0)
    now_ms = waited_ms
    for step_ms in steps_ms:
        now_ms += step_ms
        expected_ms = min(now_ms, 2 * (now_ms - waited_ms))
        assert due.at(now_ms * MS, now_ms * MS) == expected_ms * MS


def test_horizon_keeps_pace_however_seldom_it_is_advanced() -> None:
    horizon = Horizon(200 * MS)
    reached = [horizon.advance(at * MS, at * MS) for at in range(200, 10_200, 200)]
    assert reached[1:] == [at * MS for at in range(400, 10_200, 200)]


def test_horizon_is_back_at_the_present_after_catching_up() -> None:
    horizon = Horizon()
    horizon.advance(3000 * MS, 0)
    for now in range(3033, 6200, 33):
        horizon.advance(now * MS, now * MS)
    assert horizon.ns == now * MS


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10_000))))
def test_horizon_never_goes_back_nor_ahead(steps: list[tuple[int, int]]) -> None:
    horizon, now_ns, last_ns = Horizon(), 0, 0
    for step_ms, complete_ms in steps:
        now_ns += step_ms * MS
        reached_ns = horizon.advance(now_ns, complete_ms * MS)
        assert last_ns <= reached_ns <= now_ns
        last_ns = reached_ns


@settings(deadline=None)  # three hundred frames each: a busy machine takes its time
@given(st.integers(0, 33_333_332), st.lists(st.integers(-4, 4), min_size=300, max_size=300))
def test_each_slot_finds_its_picture_whatever_the_phase(start_ns: int, jitter_ms: list[int]) -> None:
    """A camera of the recording's rate, whose times jitter by an eighth of a slot."""
    slots, phase = Slots(30), SlotPhase(30)
    # The first picture is as good as any: its jitter is the phase's error.
    captured = [start_ns + slots.at_ns(n) + (jitter * MS if n else 0) for n, jitter in enumerate(jitter_ms)]
    for at_ns in captured:
        phase.observe(at_ns)
    assert phase.bias_ns is not None and 0 <= phase.bias_ns < slots.at_ns(1)
    shown = [sum(at <= slots.at_ns(n) + phase.bias_ns for at in captured) for n in range(2, 290)]
    assert all(b - a == 1 for a, b in pairwise(shown))


def test_a_phase_that_wanders_is_followed() -> None:
    """A camera that is 500 ppm fast goes through a whole slot in 67 s: one picture is left out then."""
    phase, biases = SlotPhase(30), []
    for n in range(4000):
        phase.observe(n * 33_316_667)
        biases.append(phase.bias_ns)
    assert 2 <= len(set(biases)) <= 6


@pytest.mark.parametrize(
    ("awaited_ms", "age_ms", "given"),
    [
        (0, 0, "11111111"),
        (0, 600, "11111111"),
        (0, 601, "10101010"),
        (0, 800, "10101010"),
        (0, 801, "10001000"),
        (0, 1000, "10001000"),
        (0, 1001, "00000000"),
        (500, 500, "11111111"),
        (500, 800, "11111111"),  # three fifths of the rest
        (500, 801, "10101010"),
        (500, 901, "10001000"),
        (500, 1001, "00000000"),
    ],
)
def test_pictures_are_left_out_when_the_machine_falls_behind(
    awaited_ms: int, age_ms: int, given: str
) -> None:
    left_out = [is_left_out(number, age_ms * MS, awaited_ms * MS) for number in range(8)]
    assert "".join("10"[each] for each in left_out) == given
