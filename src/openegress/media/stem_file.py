"""One voice as a file of its own, and how loud it is (EBU R 128)."""

import math
from collections.abc import Iterator
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import BlockingIOError, EOFError, FFmpegError

from openegress.core.errors import Phase, internal
from openegress.media.samples import SAMPLE_RATE

TRUE_PEAK = 10 ** (-1.5 / 20)
"""Of full scale, which nothing that was made louder exceeds: half a decibel below the most that EBU R 128
allows, as samples show less than what lies between them."""
SILENT_LUFS = -70.0
"""The gate of EBU R 128: nothing was said."""


class StemFormat(StrEnum):
    WAV = "wav"
    FLAC = "flac"
    OPUS = "opus"


_ENCODER: dict[StemFormat, tuple[str, str, dict[str, str]]] = {
    StemFormat.WAV: ("wav", "pcm_s16le", {}),
    StemFormat.FLAC: ("flac", "flac", {}),
    StemFormat.OPUS: ("ogg", "libopus", {"b": "96k"}),
}
"""Container, encoder and its options."""


class LoudnessMeter:
    """Integrated loudness by FFmpeg's ebur128."""

    def __init__(self) -> None:
        self._filters = _Filters(("ebur128", "metadata=1:framelog=quiet"))
        self.lufs = -math.inf

    def write(self, samples: bytes) -> None:
        self._read(self._filters.through(samples))

    def close(self) -> None:
        """After the last samples."""
        self._read(self._filters.rest())

    def _read(self, measured: Iterator[AudioFrame]) -> None:
        for frame in measured:
            if (told := frame.metadata.get("lavfi.r128.I")) is not None:
                self.lufs = float(told)


class StemFile:
    """Samples are interleaved s16 stereo at 48 kHz. Raises EgressError."""

    def __init__(self, path: Path, form: StemFormat, gain_db: float = 0.0) -> None:
        """Another gain than 0 goes through a limiter."""
        container, encoder, options = _ENCODER[form]
        limit = f"limit={TRUE_PEAK:.4f}:level=disabled"
        louder = (("volume", f"{gain_db:.3f}dB"), ("alimiter", limit)) if gain_db else ()
        form_of = "s16" if form is not StemFormat.OPUS else "flt"
        self._filters = _Filters(*louder, ("aformat", f"sample_fmts={form_of}"))
        try:
            self._container = av.open(str(path), "w", format=container)
            self._stream = cast(AudioStream, self._container.add_stream(encoder, rate=SAMPLE_RATE))
            self._stream.layout = "stereo"
            self._stream.options = dict(options)
        except FFmpegError as error:
            raise internal(f"{path}: {error}", Phase.RECORDING) from error

    def write(self, samples: bytes) -> None:
        self._encode(self._filters.through(samples))

    def close(self) -> None:
        self._encode(self._filters.rest())
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _encode(self, frames: Iterator[AudioFrame]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))


class _Filters:
    """A chain of FFmpeg's."""

    def __init__(self, *filters: tuple[str, str]) -> None:
        self._graph = av.filter.Graph()
        ends = self._graph.add_abuffer(
            sample_rate=SAMPLE_RATE, format="s16", layout="stereo", time_base=Fraction(1, SAMPLE_RATE)
        )
        self._source, self._count = ends, 0
        for name, arguments in filters:
            added = self._graph.add(name, arguments)
            ends.link_to(added)
            ends = added
        self._sink = self._graph.add("abuffersink")
        ends.link_to(self._sink)
        self._graph.configure()

    def through(self, samples: bytes) -> Iterator[AudioFrame]:
        frame = AudioFrame.from_ndarray(np.frombuffer(samples, "<i2").reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts = SAMPLE_RATE, self._count
        frame.time_base = Fraction(1, SAMPLE_RATE)
        self._count += frame.samples
        self._source.push(frame)
        yield from self._made()

    def rest(self) -> Iterator[AudioFrame]:
        self._source.push(None)
        yield from self._made()

    def _made(self) -> Iterator[AudioFrame]:
        while True:
            try:
                yield cast(AudioFrame, self._sink.pull())
            except (BlockingIOError, EOFError):
                return
