"""The limiter of true peaks: it changes nothing but what is too loud, and nothing gets past it."""

import numpy as np
import pytest

from openegress.media.limiter import Frames, TruePeakLimiter, frames_of, samples_of

RATE = 48_000
CEILING = 0.8


def limited(frames: Frames, sizes: list[int]) -> Frames:
    """Given in pieces of these sizes, over and over."""
    limiter, at = TruePeakLimiter(CEILING, RATE), 0
    given: list[Frames] = []
    while at < len(frames):
        size = sizes[len(given) % len(sizes)]
        given.append(limiter.limited(frames[at : at + size]))
        at += size
    return np.concatenate([*given, limiter.rest()])


def true_peak(frames: Frames) -> float:
    """By a Fourier series, sixteen times as fine."""
    spectrum = np.fft.rfft(frames, axis=0)
    fine = np.fft.irfft(spectrum, 16 * len(frames), axis=0) * 16
    return float(np.abs(fine).max())


def stereo(left: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Frames:
    return np.stack([left, -left / 2], axis=1).astype(np.float32)


def noise(seed: int, length: int, level: float) -> Frames:
    return (np.random.default_rng(seed).standard_normal((length, 2)) * level).astype(np.float32)


@pytest.mark.parametrize("sizes", [[960], [4800], [1, 7, 300], [48_000]])
def test_what_is_not_too_loud_stays_as_it_is(sizes: list[int]) -> None:
    frames = np.clip(noise(1, 5_003, 0.1), -0.35, 0.35)
    assert np.array_equal(limited(frames, sizes), frames)


def test_it_is_the_same_however_it_comes() -> None:
    frames = noise(2, 20_000, 0.5)
    whole = limited(frames, [20_000])
    assert len(whole) == len(frames)
    for sizes in ([960], [1, 4799, 13]):
        assert np.abs(limited(frames, sizes) - whole).max() < 1e-6


def test_what_lies_between_samples_counts() -> None:
    at = np.arange(RATE)
    frames = stereo(1.1 * np.sin(np.pi / 2 * at + np.pi / 4))
    assert np.abs(frames).max() < CEILING, "no sample is too loud"
    assert true_peak(frames) > 1.05
    assert true_peak(limited(frames, [960])[RATE // 4 : -RATE // 4]) < CEILING * 1.02


@pytest.mark.parametrize("seed", range(3))
def test_nothing_gets_past_it(seed: int) -> None:
    spectrum = np.fft.rfft(noise(seed, RATE, 0.6), axis=0)
    spectrum[16_000:] = 0  # what a voice has none of
    made = limited(np.fft.irfft(spectrum, RATE, axis=0).astype(np.float32), [4800])
    assert np.abs(made).max() <= CEILING + 1e-4
    assert true_peak(made) < CEILING * 1.06


def test_a_peak_is_met_by_a_gain_that_came_down_and_goes_up_again() -> None:
    at = np.arange(2 * RATE) / RATE
    frames = stereo(0.3 * np.sin(2 * np.pi * 200 * at))
    frames[RATE] = 1.6
    made = limited(frames, [960])
    gains = made[:, 0] / np.where(np.abs(frames[:, 0]) < 0.05, np.nan, frames[:, 0])
    assert made[RATE, 0] <= CEILING
    steps = np.abs(np.diff(gains[~np.isnan(gains)]))
    assert steps.max() < 0.05, "it clicks"
    assert np.nanmin(gains) == pytest.approx(CEILING / 1.6, rel=0.05)
    assert gains[RATE + RATE // 4 + 60 :][10] == pytest.approx(1.0, abs=1e-3)


def test_samples_and_back() -> None:
    samples = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert samples_of(frames_of(samples)) == samples
    loud = np.array([[2.0, -2.0]], np.float32)
    assert np.frombuffer(samples_of(loud), "<i2").tolist() == [32767, -32768]
