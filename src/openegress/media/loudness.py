"""Finds the pauses of a voice, where sound can be inserted or removed inaudibly. Pure."""

import numpy as np

from openegress.media.samples import Samples

SILENT = 33
"""-60 dB of full scale: inaudible."""
PAUSE = 0.05
"""26 dB below the voice: the sound of the room it speaks in."""
FADE = 0.995
"""Per block. It follows a voice that becomes quieter within some seconds."""


class Loudness:
    """Hears one voice, block by block."""

    def __init__(self) -> None:
        self._voice = 0.0

    def is_pause(self, samples: Samples) -> bool:
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float32)))) if len(samples) else 0.0
        self._voice = max(level, self._voice * FADE)
        return level < SILENT or level < PAUSE * self._voice
