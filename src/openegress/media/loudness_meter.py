"""Measures loudness with FFmpeg's ebur128 (EBU R 128, ITU-R BS.1770)."""

import math
from collections.abc import Iterator

from av.audio.frame import AudioFrame

from openegress.media.audio_filters import AudioFilters
from openegress.media.samples import SAMPLE_RATE

SILENT_LUFS = -70.0
"""Reading without speech: the gate of EBU R 128."""


class LoudnessMeter:
    """Measures interleaved s16 stereo."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self._filters = AudioFilters(("ebur128", "metadata=1:framelog=quiet"), sample_rate=sample_rate)
        self.lufs = -math.inf
        """Loudness of everything so far (integrated)."""
        self.momentary_lufs = -math.inf
        """Loudness of the last 400 ms."""

    def write(self, samples: bytes) -> None:
        self._read(self._filters.through(samples))

    def close(self) -> None:
        """Completes the measurement. Call it after the last samples."""
        self._read(self._filters.rest())

    def _read(self, measured: Iterator[AudioFrame]) -> None:
        for frame in measured:
            if (told := frame.metadata.get("lavfi.r128.I")) is not None:
                self.lufs = float(told)
            if (told := frame.metadata.get("lavfi.r128.M")) is not None:
                self.momentary_lufs = float(told)
