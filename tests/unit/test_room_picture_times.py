"""Decode times of senders that reorder, and with which layer a recording begins."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.units import MS
from openegress.source.room.first_layer import WAIT_NS, FirstLayer
from openegress.source.room.picture_times import MAX_REORDERED, DecodeTimes, PresentationTimes, TimedPicture

FRAME = 3000
"""30 a second at 90 kHz."""


def coded_order(shown: list[int], depth: int, seed: int = 0) -> list[int]:
    """An order of decoding in which no picture is overtaken by more than `depth`."""
    order: list[int] = []
    left = list(shown)
    while left:
        group = left[: depth + 1]
        left = left[depth + 1 :]
        order += [group[-1], *group[:-1]]
    return order


def decoded(order: list[int], depth: int) -> list[TimedPicture[int]]:
    times: DecodeTimes[int] = DecodeTimes(depth)
    out = [timed for n, pts in enumerate(order) for timed in times.put(pts * FRAME, n)]
    return [*out, *times.flush()]


@pytest.mark.parametrize(
    ("order", "depth"),
    [
        ([0, 1, 2, 3, 4, 5], 0),
        ([0, 2, 1, 4, 3, 6, 5], 1),
        ([0, 3, 1, 2, 6, 4, 5], 2),
        ([0, 4, 2, 1, 3, 8, 6, 5, 7], 3),
    ],
)
def test_each_picture_is_shown_when_it_was_sent_for_and_decoded_before(order: list[int], depth: int) -> None:
    out = decoded(order, depth)
    assert [timed.item for timed in out] == list(range(len(order)))
    assert [timed.pts for timed in out] == [pts * FRAME for pts in order]
    assert all(timed.dts <= timed.pts for timed in out)
    assert all(a.dts < b.dts for a, b in pairwise(out))


@given(st.integers(0, 3), st.lists(st.integers(1, 20), min_size=4, max_size=60))
def test_any_rhythm(depth: int, steps: list[int]) -> None:
    shown = [sum(steps[:n]) for n in range(len(steps))]
    order = coded_order(shown, depth)
    out = decoded(order, depth)
    assert [timed.pts for timed in out] == [pts * FRAME for pts in order]
    assert all(a.dts < b.dts for a, b in pairwise(out))


def test_streams_that_do_not_reorder_wait_for_nothing() -> None:
    times: DecodeTimes[int] = DecodeTimes(0)
    for n in range(10):
        assert times.put(n * FRAME, n) == [TimedPicture(n, n * FRAME, n * FRAME)]


def test_a_reordering_that_nobody_announced_is_learnt() -> None:
    """One picture is shown late by less than a frame; from there on each is in time."""
    order = [0, 1, 2, 5, 3, 4, 8, 6, 7, 11, 9, 10]
    out = decoded(order, 0)
    late = [timed.pts - pts * FRAME for timed, pts in zip(out, order, strict=True)]
    assert late[6:] == [0] * 6 and max(late) <= 3 * FRAME
    assert all(a.dts < b.dts for a, b in pairwise(out))


@given(st.lists(st.integers(-10 * FRAME, 10 * FRAME), max_size=80), st.integers(0, 9))
def test_whatever_comes_decode_times_rise_and_little_is_held(jumps: list[int], depth: int) -> None:
    times: DecodeTimes[int] = DecodeTimes(depth)
    out: list[TimedPicture[int]] = []
    for n, jump in enumerate(jumps):
        out += times.put(n * FRAME + jump, n)
        assert n + 1 - len(out) <= MAX_REORDERED
    out += times.flush()
    assert [timed.item for timed in out] == list(range(len(jumps)))
    assert all(a.dts < b.dts for a, b in pairwise(out))
    assert all(timed.dts <= timed.pts for timed in out)


def test_pictures_shown_before_those_sent_ahead_are_placed_by_rtp() -> None:
    """Wall times rise whatever comes: 0, 33, 66, 99 of a stream with B frames came out as 0, 66, 99, 99."""
    times = PresentationTimes()
    rtp, wall = [0, 9000, 3000, 6000, 18_000, 12_000], [0, 9000, 9001, 9002, 18_000, 18_001]
    placed = [times.place(w, 77 + r, is_key=n == 0) for n, (r, w) in enumerate(zip(rtp, wall, strict=True))]
    assert placed == rtp


def test_pictures_after_one_that_was_placed_late_are_drawn_together() -> None:
    times = PresentationTimes()
    late = 6300
    wall = [late, *(max(late + n, n * 3000) for n in range(1, 8))]
    placed = [times.place(at, n * 3000, is_key=n == 0) for n, at in enumerate(wall)]
    assert [b - a for a, b in pairwise(placed)] == [1500, 1500, 1500, 1500, 2700, 3000, 3000]


@pytest.mark.parametrize("late", [1500, 4500, 6300])
def test_pictures_that_are_reordered_behind_one_that_was_placed_late_keep_their_order(late: int) -> None:
    times = PresentationTimes()
    placed, wall = {}, -1
    for n in (0, 3, 1, 2, 6, 4, 5, 9, 7, 8):
        wall = max(wall + 1, n * FRAME, 0 if n else late)
        placed[n] = times.place(wall, n * FRAME, is_key=n == 0)
    shown = [placed[n] for n in range(10)]
    assert all(a < b for a, b in pairwise(shown)), shown
    assert shown[6:] == [n * FRAME for n in range(6, 10)]


@pytest.mark.parametrize(("rtp", "is_key"), [(1000, True), (50, False)])
def test_a_clock_that_began_anew_is_no_reordering(rtp: int, is_key: bool) -> None:
    times = PresentationTimes()
    assert times.place(500, 95_000, is_key=True) == 500
    assert times.place(3500, rtp, is_key=is_key) == 3500


HIGH, LOW, DELTA = (1280, 720), (640, 360), (0, 0)


@pytest.mark.parametrize(
    ("announced", "pictures", "given", "left_out"),
    [
        pytest.param((0, 0), [(0, LOW)], "0", 0, id="nothing is announced"),
        pytest.param(HIGH, [(0, HIGH), (33, DELTA)], "01", 0, id="what was announced"),
        pytest.param(
            HIGH, [(0, LOW), (33, DELTA), (66, HIGH), (99, DELTA)], "23", 2, id="a smaller one first"
        ),
        pytest.param(HIGH, [(0, (720, 1280))], "0", 0, id="a phone that was turned"),
        pytest.param(HIGH, [(0, (1264, 704))], "0", 0, id="rounded by its encoder"),
        pytest.param(HIGH, [(0, LOW), (300, DELTA), (600, DELTA)], "012", 0, id="never"),
        pytest.param(
            HIGH, [(0, (320, 180)), (100, LOW), (599, DELTA), (700, DELTA), (733, HIGH)], "1234", 1, id="late"
        ),
    ],
)
def test_a_recording_begins_with_the_layer_that_is_recorded(
    announced: tuple[int, int], pictures: list[tuple[int, tuple[int, int]]], given: str, left_out: int
) -> None:
    layer: FirstLayer[str] = FirstLayer(*announced)
    out = [one for n, (at, size) in enumerate(pictures) for one in layer.take(at * MS, *size, str(n))]
    assert "".join(out) == given
    assert layer.left_out == left_out
    assert not layer.is_waiting


def test_a_wait_that_no_picture_ends_is_ended_by_the_clock() -> None:
    layer: FirstLayer[str] = FirstLayer(*HIGH)
    assert layer.take(0, *LOW, "a") == [] and layer.is_waiting
    assert layer.begin() == ["a"] and not layer.is_waiting
    assert layer.take(WAIT_NS, *DELTA, "b") == ["b"]
