"""Makes blocks of sound slightly shorter or longer, inaudibly. Pure.

For a few samples, a block is resampled. For more, one period of a voice is removed or repeated where the
block is most similar to itself a period later. Call receivers use the same method to catch up after a delay
(WSOLA: Verhelst and Roelands, 1993).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from openegress.media.samples import SAMPLE_RATE, Samples

FADE = SAMPLE_RATE // 200
"""Length of the fade from one period to the next: 5 ms."""
SHORTEST_PERIOD = SAMPLE_RATE // 400
LONGEST_PERIOD = SAMPLE_RATE // 80
"""Longest period that is searched for: 12.5 ms. From 2.5 ms, this covers voices from 80 to 400 Hz, and
multiples of higher periods."""
_STEP = 4
"""Only every fourth sample is compared: 12 kHz reveals a voice's period."""
ALIKE = 0.7
"""The correlation above which removing a period is inaudible."""


def resampled(samples: Samples, count: int) -> Samples:
    """Resamples the block to `count` samples. Up to half a per cent is inaudible."""
    at = np.linspace(0, len(samples) - 1, count)
    both = [np.interp(at, np.arange(len(samples)), samples[:, i]) for i in range(2)]
    return np.stack(both, axis=1).round().astype(np.int16)


def without_a_period(samples: Samples, most: int) -> Samples:
    """Returns the block without one period of at most `most` samples; unchanged if none can be removed."""
    period = _period(samples, most)
    if not period:
        return samples
    faded = _faded(samples[:FADE], samples[period : period + FADE])
    return np.concatenate([faded, samples[period + FADE :]])


def with_a_period(samples: Samples, most: int) -> Samples:
    """Returns the block with one period of at most `most` samples repeated; unchanged if it has none."""
    period = _period(samples, most)
    if not period:
        return samples
    faded = _faded(samples[period : period + FADE], samples[:FADE])
    return np.concatenate([samples[:period], faded, samples[FADE:]])


def _period(samples: Samples, most: int) -> int:
    """Finds after how many samples the block's beginning repeats; 0: never."""
    longest = min(LONGEST_PERIOD, most, len(samples) - FADE)
    if longest < SHORTEST_PERIOD:
        return 0
    mono = samples[: longest + FADE].sum(axis=1, dtype=np.float64)[::_STEP]
    head = mono[: FADE // _STEP]
    windows = sliding_window_view(mono, len(head))[SHORTEST_PERIOD // _STEP : longest // _STEP + 1]
    sizes = np.sqrt((windows * windows).sum(axis=1) * (head @ head))
    likeness = np.divide(windows @ head, sizes, out=np.zeros(len(windows)), where=sizes > 0)
    best = int(likeness.argmax())
    return SHORTEST_PERIOD // _STEP * _STEP + best * _STEP if likeness[best] >= ALIKE else 0


def _faded(falling: Samples, rising: Samples) -> Samples:
    """Fades from one block to the other, over FADE samples."""
    ramp = np.linspace(0, 1, FADE)[:, None]
    return (falling * (1 - ramp) + rising * ramp).round().astype(np.int16)
