"""Finds the pauses of a voice, where sound can be inserted or removed inaudibly. Pure."""

import numpy as np

from openegress.media.samples import Samples

SILENT = 33
"""Level that is inaudible: -60 dB of full scale."""
PAUSE = 0.05
"""Level of a pause relative to the voice: 26 dB below it, which is the sound of the room."""
FADE = 0.995
"""Decay of the voice's level per block. It follows a voice that becomes quieter within some seconds."""


class PauseDetector:
    """Hears one voice, block by block."""

    def __init__(self) -> None:
        self._voice = 0.0

    def is_pause(self, samples: Samples) -> bool:
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float32)))) if len(samples) else 0.0
        self._voice = max(level, self._voice * FADE)
        return level < SILENT or level < PAUSE * self._voice
