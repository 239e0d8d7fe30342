"""Writes one voice to a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError

from openegress.core.errors import Phase, internal
from openegress.core.stems import StemFormat
from openegress.media.audio_filters import AudioFilters
from openegress.media.leveller import CEILING, factor_of
from openegress.media.limiter import TruePeakLimiter, frames_of, samples_of
from openegress.media.samples import SAMPLE_RATE

_ENCODER: dict[StemFormat, tuple[str, str, dict[str, str], dict[str, str]]] = {
    StemFormat.WAV: ("wav", "pcm_s16le", {}, {"rf64": "auto"}),
    StemFormat.FLAC: ("flac", "flac", {}, {}),
    StemFormat.OPUS: ("ogg", "libopus", {"b": "96k"}, {}),
}
"""Container, encoder, encoder options and container options: a WAV larger than 4 GiB becomes an RF64 (EBU
Tech 3306)."""


class StemFile:
    """The file of one voice. Samples are interleaved s16 stereo at 48 kHz. Raises EgressError."""

    def __init__(self, path: Path, form: StemFormat, gain_db: float = 0.0) -> None:
        """A gain other than 0 goes through a limiter."""
        container, encoder, options, container_options = _ENCODER[form]
        self._factor = factor_of(gain_db)
        self._limiter = TruePeakLimiter(CEILING, SAMPLE_RATE) if gain_db else None
        sample_format = "s16" if form is not StemFormat.OPUS else "flt"
        self._filters = AudioFilters(("aformat", f"sample_fmts={sample_format}"))
        try:
            self._container = av.open(str(path), "w", format=container, options=container_options)
            self._stream = cast(AudioStream, self._container.add_stream(encoder, rate=SAMPLE_RATE))
            self._stream.layout = "stereo"
            self._stream.options = dict(options)
        except FFmpegError as error:
            raise internal(f"{path}: {error}", Phase.RECORDING) from error

    def write(self, samples: bytes) -> None:
        if self._limiter is not None:
            samples = samples_of(self._limiter.limited(frames_of(samples) * self._factor))
        if samples:
            self._encode(self._filters.through(samples))

    def close(self) -> None:
        if self._limiter is not None and (rest := samples_of(self._limiter.rest())):
            self._encode(self._filters.through(rest))
        self._encode(self._filters.rest())
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _encode(self, frames: Iterator[AudioFrame]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))
