"""Limits true peaks (ITU-R BS.1770-5, annex 2), which may lie between samples. Pure.

It looks ahead, so that the gain falls smoothly before a peak and rises slowly after it.
"""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
"""Stereo samples as (n, 2), full scale 1."""
Gains = NDArray[np.float64]

_FULL_SCALE = 32768.0
_TAPS = 12
"""Taps of the filter that interpolates between two samples, as in the recommendation."""
_BEFORE, _BEHIND = _TAPS // 2 - 1, _TAPS // 2
"""How many taps lie before and after the current sample."""
_PHASES = np.array([0.25, 0.5, 0.75])
_LOOK_AHEAD_S = 0.005
_RELEASE_S = 0.25
"""Time for a gain to rise from 0 to 1. Most peaks take a few decibels, which return in a tenth of that."""


def _filter() -> Frames:
    """Computes (taps, phases): a windowed sinc for each position between two samples."""
    offsets = np.arange(-_BEFORE, _BEHIND + 1)[:, None] - _PHASES[None, :]
    found = np.sinc(offsets) * np.cos(np.pi * offsets / (_TAPS + 2)) ** 2
    return np.asarray(found / found.sum(axis=0), np.float32)


_BETWEEN = _filter()


class TruePeakLimiter:
    """Limits true peaks. It delays its input by some milliseconds; rest() returns the end of it."""

    def __init__(self, ceiling: float, sample_rate: int) -> None:
        """`ceiling`: share of full scale."""
        self._ceiling = ceiling
        self._ahead = round(_LOOK_AHEAD_S * sample_rate)
        self._step = 1 / (_RELEASE_S * sample_rate)
        """Rise of the gain per sample."""
        self._delay = self._ahead - 1 + _BEHIND
        self._inside: Frames = np.zeros((self._delay, 2), np.float32)
        """Input that has not been returned yet: at first silence, which is skipped."""
        self._to_skip = self._delay
        self._wanted: Gains = np.ones(self._ahead - 1)
        """The gains that the last peaks require."""
        self._risen: Gains = np.ones(self._ahead - 1)
        """The same with look-ahead and slow release."""

    def limited(self, frames: Frames) -> Frames:
        if not len(frames):
            return frames
        samples = np.concatenate((self._inside, frames))
        gains = self._gains(samples[-(len(frames) + _TAPS - 1) :])
        self._inside = samples[len(frames) :]
        given = samples[: len(frames)]
        if gains is not None:
            given = given * gains[:, None].astype(np.float32)
        skipped = min(self._to_skip, len(given))
        self._to_skip -= skipped
        return given[skipped:]

    def rest(self) -> Frames:
        """Returns the remaining samples. Call it after the last input."""
        return self.limited(np.zeros((self._delay, 2), np.float32))

    def _gains(self, samples: Frames) -> Gains | None:
        """Returns the gains for the samples that are returned next; None: 1 for all."""
        peaks = _true_peaks(samples, self._ceiling / 2)
        wanted = np.concatenate((self._wanted, np.minimum(1.0, self._ceiling / np.maximum(peaks, 1e-9))))
        if wanted.min() >= 1.0 and self._risen.min() >= 1.0:
            return None
        least = _least(wanted, self._ahead)
        self._wanted = wanted[len(least) :]
        steps = self._step * np.arange(1, len(least) + 1)
        highest = np.minimum(self._risen[-1], np.minimum.accumulate(least - steps)) + steps
        risen = np.concatenate((self._risen, np.minimum(1.0, highest)))
        self._risen = risen[len(least) :]
        sums = np.cumsum(np.concatenate((np.zeros(1), risen)))
        return np.asarray((sums[self._ahead :] - sums[: -self._ahead]) / self._ahead)


def _true_peaks(samples: Frames, from_level: float) -> Gains:
    """Returns the peaks of both channels, around each sample with enough neighbours on both sides. Ignores
    values between samples if all samples are below `from_level`."""
    at_samples = np.abs(samples[_BEFORE:-_BEHIND]).max(axis=1).astype(np.float64)
    if at_samples.max() < from_level:
        return np.asarray(at_samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, _TAPS, axis=0)
    return np.asarray(np.maximum(at_samples, np.abs(windows @ _BETWEEN).max(axis=(1, 2))), np.float64)


def _least(values: Gains, length: int) -> Gains:
    """Returns the minimum of each `length` consecutive values."""
    span = 1
    while 2 * span <= length:
        values = np.minimum(values[:-span], values[span:])
        span *= 2
    rest = length - span
    return np.minimum(values[:-rest], values[rest:]) if rest else values


def frames_of(samples: bytes) -> Frames:
    """Converts interleaved s16 stereo to frames."""
    return np.frombuffer(samples, "<i2").reshape(-1, 2).astype(np.float32) / np.float32(_FULL_SCALE)


def samples_of(frames: Frames) -> bytes:
    """Converts frames to interleaved s16 stereo."""
    scaled = np.clip(frames * np.float32(_FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return bytes(np.rint(scaled).astype("<i2").tobytes())
