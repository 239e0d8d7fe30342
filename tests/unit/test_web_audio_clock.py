"""Where blocks of sound belong, from when they arrived."""

import random

import numpy as np
import pytest

from openegress.core.units import MS
from openegress.source.web.audio_capture import by_a_period, stretch
from openegress.source.web.audio_clock import (
    FASTEST_SAMPLES,
    PERIOD_NS,
    READY_BLOCKS,
    AudioClock,
    BlockPlacement,
)

RATE = 48_000
BLOCK = 960
BLOCK_NS = 20 * MS


def deliver(
    clock: AudioClock,
    late_ns: list[int],
    zero_ns: int,
    position: int = 0,
    first_block: int = 0,
    ppm: float = 0.0,
) -> tuple[int, list[BlockPlacement]]:
    """Blocks made by the server's clock (`ppm` slower), each arriving `late_ns` after its end."""
    placements = []
    for k, late in enumerate(late_ns, first_block):
        clock.arrived(BLOCK, int((k + 1) * BLOCK_NS * (1 + ppm / 1e6)) + late)
        if clock.ready:
            placement = clock.place(position, k * BLOCK, BLOCK, zero_ns)
            placements.append(placement)
            position += BLOCK + placement.silence - placement.skip + placement.stretch
    return position, placements


@pytest.mark.parametrize(
    ("zero_ms", "first"),
    [
        (0, BlockPlacement(silence=(READY_BLOCKS - 1) * BLOCK)),  # sound begins after the picture
        ((READY_BLOCKS - 1) * 20, BlockPlacement()),
        ((READY_BLOCKS - 1) * 20 + 5, BlockPlacement(skip=240)),
        (10_000, BlockPlacement(skip=BLOCK)),
    ],
)
def test_the_first_block_is_put_where_it_belongs(zero_ms: int, first: int) -> None:
    _, placements = deliver(AudioClock(RATE), [0] * READY_BLOCKS, zero_ms * MS)
    assert placements == [first]


def test_late_arrivals_do_not_move_the_sound() -> None:
    noise = random.Random(1)
    late = [int(noise.expovariate(1 / 5) * MS) for _ in range(2000)]
    position, placements = deliver(AudioClock(RATE), late, 0)
    assert sum(abs(p.stretch) for p in placements) <= 60
    assert position / RATE == pytest.approx(2000 * 0.02, abs=0.004)


@pytest.mark.parametrize("ppm", [-200.0, -40.0, 40.0, 200.0])
def test_drift_is_followed_a_sample_at_a_time(ppm: int) -> None:
    blocks = 30_000  # ten minutes
    position, placements = deliver(AudioClock(RATE), [0] * blocks, 0, ppm=ppm)
    assert position / RATE == pytest.approx(blocks * 0.02 * (1 + ppm / 1e6), abs=0.006)
    assert all(p.silence == p.skip == 0 for p in placements[1:])
    assert {p.stretch for p in placements[1:]} <= {0, 1 if ppm > 0 else -1}


def test_a_wrong_origin_at_the_start_is_put_right_within_seconds() -> None:
    late = [60 * MS] * READY_BLOCKS + [0] * 1500
    position, placements = deliver(AudioClock(RATE), late, 0)
    assert position / RATE == pytest.approx(len(late) * 0.02, abs=0.004)
    assert max(abs(p.stretch) for p in placements) == FASTEST_SAMPLES


def test_silence_is_put_right_at_once() -> None:
    clock = AudioClock(RATE)
    position, _ = deliver(clock, [0] * 300, 0)
    spoken = clock.place(position, 300 * BLOCK, BLOCK, 50 * MS)
    assert spoken == BlockPlacement(stretch=-FASTEST_SAMPLES, by_periods=-2400)
    assert clock.off_ns == -50 * MS
    for zero_ms, wanted in ((50, BlockPlacement(skip=BLOCK)), (-50, BlockPlacement(silence=2400))):
        assert clock.place(position, 300 * BLOCK, BLOCK, zero_ms * MS, is_silent=True) == wanted


def tone(first: int) -> bytes:
    """A block of 200 Hz, whose sample `first` is."""
    wave = (np.sin(2 * np.pi * 200 * np.arange(first, first + BLOCK) / RATE) * 20_000).astype("<i2")
    return np.stack([wave, wave], axis=1).tobytes()


@pytest.mark.parametrize(("late_ms", "within_s"), [(100, 1.0), (60, 0.6), (-60, 0.6), (-100, 1.0)])
def test_sound_that_lies_far_off_is_moved_by_periods(late_ms: int, within_s: float) -> None:
    """Its pitch stays, and no sample jumps."""
    clock = AudioClock(RATE)
    position, _ = deliver(clock, [0] * 300, 0)
    heard = b""
    for k in range(300, 1000):
        clock.arrived(BLOCK, (k + 1) * BLOCK_NS)
        placement = clock.place(position, k * BLOCK, BLOCK, late_ms * MS)
        data = tone(k * BLOCK)
        if placement.by_periods:
            data = by_a_period(data, placement.by_periods)
            assert placement.silence == placement.skip == 0
        if placement.stretch and len(data) == 4 * BLOCK:
            data = stretch(data, placement.stretch)
        heard += data
        position += len(data) // 4
        if abs(clock.off_ns) < PERIOD_NS:
            break
    assert (k - 300) * BLOCK / RATE <= within_s
    samples = np.frombuffer(heard, "<i2").reshape(-1, 2)[:, 0].astype(int)
    assert np.abs(np.diff(samples)).max() < 1200, "a sine of 200 Hz moves by 523 a sample at most"


@pytest.mark.parametrize("sign", [1, -1])
def test_what_has_no_period_stays_as_it_is(sign: int) -> None:
    noise = np.random.default_rng(1).integers(-20_000, 20_000, (BLOCK, 2)).astype("<i2").tobytes()
    assert by_a_period(noise, sign * 4800) == noise
    periods = sign * (len(by_a_period(tone(0), sign * 4800)) // 4 - BLOCK) / (RATE / 200)
    assert periods == pytest.approx(round(periods), abs=0.02) and periods > 0.9
    assert by_a_period(tone(0), sign * 10) == tone(0), "no period is so short"


def test_unsteady_arrivals_are_waited_out() -> None:
    clock = AudioClock(RATE)
    late = [k * 7 % 97 * MS for k in range(60)]
    deliver(clock, late, 0)
    assert not clock.ready
    deliver(clock, [0] * 40, 0, 0, 60)
    assert clock.ready


def test_lost_sound_becomes_silence() -> None:
    clock = AudioClock(RATE)
    position, _ = deliver(clock, [0] * 300, 0)
    gap_ns = 500 * MS
    position, placements = deliver(clock, [gap_ns] * 400, 0, position, 300)
    assert sum(p.silence for p in placements) == pytest.approx(RATE // 2, abs=RATE // 500)
    assert position / RATE == pytest.approx(700 * 0.02 + 0.5, abs=0.005)


@pytest.mark.parametrize("samples", [-1, 0, 1])
def test_stretching_keeps_the_ends_and_the_wave(samples: int) -> None:
    time = np.arange(BLOCK) / RATE
    wave = (np.sin(2 * np.pi * 440 * time) * 20_000).astype("<i2")
    stereo = np.stack([wave, -wave], axis=1)
    out = np.frombuffer(stretch(stereo.tobytes(), samples), "<i2").reshape(-1, 2)
    assert len(out) == BLOCK + samples
    assert (out[0] == stereo[0]).all()
    assert (out[-1] == stereo[-1]).all()
    expected = np.interp(np.linspace(0, BLOCK - 1, len(out)), np.arange(BLOCK), wave)
    assert abs(out[:, 0] - expected).max() <= 1
    assert (out[:, 0] == -out[:, 1]).all()
