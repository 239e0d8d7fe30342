"""Mixing as arithmetic: placing, routes, soft clipping."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.units import S
from openegress.media.mixer import BLOCK_SAMPLES, JUMP_SAMPLES, SLEW, Channel, MixerInput, mix, soft_clip
from openegress.media.samples import SAMPLE_RATE, Samples


def level(value: int, count: int = BLOCK_SAMPLES) -> Samples:
    return np.full((count, 2), value, np.int16)


def block(data: bytes) -> Samples:
    return np.frombuffer(data, np.int16).reshape(-1, 2)


def ns(samples: int) -> int:
    return samples * S // SAMPLE_RATE


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [(Channel.BOTH, 1000, 1000), (Channel.LEFT, 1000, 0), (Channel.RIGHT, 0, 1000)],
)
def test_routes(channel: Channel, left: int, right: int) -> None:
    track = MixerInput(channel)
    track.write(0, level(1000))
    assert block(mix([track], 0)).tolist() == [[left, right]] * BLOCK_SAMPLES


def test_inputs_add_up() -> None:
    inputs = [MixerInput(), MixerInput(), MixerInput(Channel.LEFT)]
    for track, value in zip(inputs, (1000, -300, 50), strict=True):
        track.write(0, level(value))
    assert block(mix(inputs, 0))[0].tolist() == [750, 700]


def test_an_input_that_begins_inside_a_block() -> None:
    track = MixerInput()
    track.write(ns(BLOCK_SAMPLES // 2), level(500))
    first, second, third = (block(mix([track], i * BLOCK_SAMPLES))[:, 0] for i in range(3))
    assert first.tolist() == [0] * 480 + [500] * 480
    assert second.tolist() == [500] * 480 + [0] * 480
    assert not third.any()


def test_what_comes_after_its_block_was_given_out_is_cut() -> None:
    track = MixerInput()
    track.write(0, level(500, 2 * BLOCK_SAMPLES))
    assert block(mix([track], BLOCK_SAMPLES))[:, 0].tolist() == [500] * BLOCK_SAMPLES


def test_silence_without_inputs() -> None:
    assert mix([], 0) == bytes(4 * BLOCK_SAMPLES)


VOICE = 7_000


def follow(wanted: int, skipped: int | None = 0, spoken: int = VOICE) -> tuple[int, Samples]:
    """Where what belongs at `wanted` is put after sound up to 4800, and as what."""
    track = MixerInput()
    track.write(ns(4800 - 960) + 1, level(VOICE))
    # One sample more than its start, so that rounding down cannot land before it.
    track.write(ns(wanted) + 1, level(spoken), skipped)
    at, _, samples = track._chunks[-1]
    return at, samples


@pytest.mark.parametrize(
    ("wanted", "start", "count"),
    [
        (4800, 4800, 960),
        (4800 + 90, 4800, 960),
        (4800 + 200, 4800, 960 + 960 // SLEW),
        (4800 - 200, 4800, 960 - 960 // SLEW),
        (4800 + JUMP_SAMPLES + 1, 4800 + JUMP_SAMPLES + 1, 960),
    ],
)
def test_where_a_block_goes(wanted: int, start: int, count: int) -> None:
    at, samples = follow(wanted)
    assert (at, len(samples)) == (start, count)
    assert (samples == VOICE).all()


@pytest.mark.parametrize("late", [2400, 4800, 48_000, 480_000])
def test_speech_that_is_late_is_kept_whole_and_hurried(late: int) -> None:
    at, samples = follow(4800 - late)
    assert at == 4800
    assert 960 * 0.4 <= len(samples) < 960


@pytest.mark.parametrize(("wanted", "start", "count"), [(4800 - 500, 4800, 460), (4800 + 500, 5300, 960)])
def test_time_is_made_up_for_in_pauses(wanted: int, start: int, count: int) -> None:
    at, samples = follow(wanted, spoken=10)
    assert (at, len(samples)) == (start, count)


def test_what_comes_after_its_block_was_given_out_is_heard_all_the_same() -> None:
    track = MixerInput()
    track.write(0, level(VOICE))
    blocks = [mix([track], index * BLOCK_SAMPLES) for index in range(50)]
    track.write(ns(BLOCK_SAMPLES), level(VOICE))
    blocks += [mix([track], index * BLOCK_SAMPLES) for index in range(50, 53)]
    heard = [index for index, each in enumerate(blocks) if block(each).any()]
    assert heard == [0, 50]
    assert (block(blocks[50]) == VOICE).all()


def test_it_is_told_how_late_is_what_is_heard_and_silence_makes_up_for_it() -> None:
    track = MixerInput()
    track.write(0, level(VOICE))
    late = []
    for index in range(60):
        if index == 50:
            track.write(ns(BLOCK_SAMPLES) + 1, level(VOICE))
        mix([track], index * BLOCK_SAMPLES)
        late.append(track.late_at((index + 1) * BLOCK_SAMPLES) // BLOCK_SAMPLES)
    assert late == [0] * 50 + [49 - index for index in range(10)]


def test_sound_from_before_media_time_zero_does_not_delay_what_follows() -> None:
    track = MixerInput()
    for index in range(-10, 10):
        track.write(ns(index * BLOCK_SAMPLES), level(VOICE + index))
    blocks = [block(mix([track], index * BLOCK_SAMPLES))[5, 0] for index in range(10)]
    assert blocks == [VOICE + index for index in range(10)]


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
    at, samples = follow(wanted, skipped)
    assert (at, len(samples)) == (start, 960)


@given(st.integers(-480_000, 480_000), st.one_of(st.none(), st.integers(-10_000, 10_000)))
def test_nothing_is_placed_over_what_was_and_no_speech_is_left_out(apart: int, skipped: int | None) -> None:
    at, samples = follow(4800 + max(apart, -4800), skipped)
    assert at >= 4800
    assert len(samples) >= 960 * 0.4


def test_drift_is_followed_without_a_hole() -> None:
    """A sender whose clock runs 200 ppm fast for a minute."""
    track, end = MixerInput(), 0
    for i in range(3_000):
        at_ns = i * 20_000_000 * 1_000_200 // 1_000_000
        track.write(at_ns, level(VOICE))
        assert track.end is not None
        assert 0 < track.end - end <= BLOCK_SAMPLES * (SLEW + 1) // SLEW
        end = track.end
        track._chunks.clear()
    assert abs(ns(end) - 60 * S * 1_000_200 // 1_000_000) < 5_000_000


@given(st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=50))
def test_soft_clip_keeps_order_sign_and_range(values: list[int]) -> None:
    total = np.array(sorted(values), np.int32).repeat(2).reshape(-1, 2)
    clipped = soft_clip(total).astype(np.int32)
    assert (np.diff(clipped[:, 0]) >= 0).all()
    assert (np.sign(clipped) * np.sign(total) >= 0).all()
    quiet = np.abs(total) <= 26_000
    assert (clipped[quiet] == total[quiet]).all()
