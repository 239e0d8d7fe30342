"""Mixing as arithmetic: placing, routes, soft clipping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.media.decoder import SAMPLE_RATE, Samples
from openegress.media.mixer import BLOCK_SAMPLES, JUMP_SAMPLES, Channel, Lane, mix, place, soft_clip

NS = 1_000_000_000


def level(value: int, count: int = BLOCK_SAMPLES) -> Samples:
    return np.full((count, 2), value, np.int16)


def block(data: bytes) -> Samples:
    return np.frombuffer(data, np.int16).reshape(-1, 2)


def ns(samples: int) -> int:
    return samples * NS // SAMPLE_RATE


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [(Channel.BOTH, 1000, 1000), (Channel.LEFT, 1000, 0), (Channel.RIGHT, 0, 1000)],
)
def test_routes(channel: Channel, left: int, right: int) -> None:
    lane = Lane(channel)
    lane.write(0, level(1000))
    assert block(mix([lane], 0)).tolist() == [[left, right]] * BLOCK_SAMPLES


def test_lanes_add_up() -> None:
    lanes = [Lane(), Lane(), Lane(Channel.LEFT)]
    for lane, value in zip(lanes, (1000, -300, 50), strict=True):
        lane.write(0, level(value))
    assert block(mix(lanes, 0))[0].tolist() == [750, 700]


def test_a_lane_that_begins_inside_a_block() -> None:
    lane = Lane()
    lane.write(ns(BLOCK_SAMPLES // 2), level(500))
    first, second, third = (block(mix([lane], i * BLOCK_SAMPLES))[:, 0] for i in range(3))
    assert first.tolist() == [0] * 480 + [500] * 480
    assert second.tolist() == [500] * 480 + [0] * 480
    assert not third.any()


def test_what_comes_after_its_block_was_given_out_is_cut() -> None:
    lane = Lane()
    lane.write(0, level(500, 2 * BLOCK_SAMPLES))
    assert block(mix([lane], BLOCK_SAMPLES))[:, 0].tolist() == [500] * BLOCK_SAMPLES


def test_silence_without_lanes() -> None:
    assert mix([], 0) == bytes(4 * BLOCK_SAMPLES)


@pytest.mark.parametrize(
    ("expected", "wanted", "start", "count"),
    [
        (None, 4800, 4800, 960),
        (4800, 4800, 4800, 960),
        (4800, 4800 + 90, 4800, 960),
        (4800, 4800 + 200, 4800, 961),
        (4800, 4800 - 200, 4800, 959),
        (4800, 4800 + JUMP_SAMPLES + 1, 4800 + JUMP_SAMPLES + 1, 960),
        (4800, 4800 - JUMP_SAMPLES - 1, 4800 - JUMP_SAMPLES - 1, 960),
    ],
)
def test_place(expected: int | None, wanted: int, start: int, count: int) -> None:
    # One sample more than its start, so that rounding down cannot land before it.
    at, samples = place(expected, ns(wanted) + 1, level(7, 960))
    assert (at, len(samples)) == (start, count)
    assert (samples == 7).all()


@pytest.mark.parametrize(
    ("wanted", "skipped", "start"),
    [
        (4800 + 960, 960, 4800 + 960),  # a packet lost
        (4800 + 4320, 4320, 4800 + 4320),  # speech again, somewhere between two packets of comfort noise
        (4800 + 960 + 90, 960, 4800 + 960 + 90),  # drift is made up for in passing
        (4800 + 960 - 90, 960, 4800 + 960 - 90),
        (4800 - 30, 960, 4800),  # but nothing is played over
        (4800 + 960, None, 4800 + 960),  # RTP began anew
        (4800 + 960, -500_000, 4800 + 960),
        (4800 - 960, -500_000, 4800),
        (4800 + 30, 96, 4800),  # a sloppy sender: no packet is as short as that
        (4800 + 30, -96, 4800),
        (4800 + 2 * JUMP_SAMPLES, 0, 4800 + 2 * JUMP_SAMPLES),  # a clock that was set
    ],
)
def test_what_the_sender_left_out_stays_open(wanted: int, skipped: int | None, start: int) -> None:
    at, samples = place(4800, ns(wanted) + 1, level(7, 960), skipped)
    assert (at, len(samples)) == (start, 960)


@given(st.integers(-JUMP_SAMPLES, JUMP_SAMPLES), st.one_of(st.none(), st.integers(-10_000, 10_000)))
def test_nothing_within_a_jump_is_placed_over_what_was(apart: int, skipped: int | None) -> None:
    at, samples = place(48_000, ns(48_000 + apart) + 1, level(7), skipped)
    assert at >= 48_000
    assert abs(len(samples) - BLOCK_SAMPLES) <= 1


def test_drift_is_followed_without_a_hole() -> None:
    """A sender whose clock runs 200 ppm fast for a minute."""
    lane, end = Lane(), 0
    for i in range(3_000):
        at_ns = i * 20_000_000 * 1_000_200 // 1_000_000
        lane.write(at_ns, level(1))
        assert lane.end is not None
        assert 0 < lane.end - end <= BLOCK_SAMPLES + 1
        end = lane.end
        lane._chunks.clear()
    assert abs(ns(end) - 60 * NS * 1_000_200 // 1_000_000) < 5_000_000


@given(st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=50))
def test_soft_clip_keeps_order_sign_and_range(values: list[int]) -> None:
    total = np.array(sorted(values), np.int32).repeat(2).reshape(-1, 2)
    clipped = soft_clip(total).astype(np.int32)
    assert (np.diff(clipped[:, 0]) >= 0).all()
    assert (np.sign(clipped) * np.sign(total) >= 0).all()
    quiet = np.abs(total) <= 26_000
    assert (clipped[quiet] == total[quiet]).all()
