"""The type of decoded sound: interleaved s16 stereo at one rate. Pure."""

import numpy as np
from numpy.typing import NDArray

from openegress.core.units import S

SAMPLE_RATE = 48_000
"""The rate of all decoded sound: Opus' own, and the mixer's."""

Samples = NDArray[np.int16]
"""Interleaved stereo as (n, 2)."""


def duration_ns(samples: Samples) -> int:
    return len(samples) * S // SAMPLE_RATE
