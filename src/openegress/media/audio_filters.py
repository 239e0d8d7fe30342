"""A chain of FFmpeg audio filters."""

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.error import BlockingIOError, EOFError

from openegress.media.samples import SAMPLE_RATE


class AudioFilters:
    """Takes interleaved s16 stereo; returns frames in the format of the last filter."""

    def __init__(self, *filters: tuple[str, str], sample_rate: int = SAMPLE_RATE) -> None:
        """`filters`: names and arguments."""
        self._rate, self._count = sample_rate, 0
        self._graph = av.filter.Graph()
        self._graph.threads = 1  # otherwise FFmpeg starts an idle thread per processor
        ends = self._graph.add_abuffer(
            sample_rate=sample_rate, format="s16", layout="stereo", time_base=Fraction(1, sample_rate)
        )
        self._source = ends
        for name, arguments in filters:
            added = self._graph.add(name, arguments)
            ends.link_to(added)
            ends = added
        self._sink = self._graph.add("abuffersink")
        ends.link_to(self._sink)
        self._graph.configure()

    def through(self, samples: bytes) -> Iterator[AudioFrame]:
        frame = AudioFrame.from_ndarray(np.frombuffer(samples, "<i2").reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts = self._rate, self._count
        frame.time_base = Fraction(1, self._rate)
        self._count += frame.samples
        self._source.push(frame)
        yield from self._made()

    def rest(self) -> Iterator[AudioFrame]:
        """Returns the remaining frames. Call it after the last samples."""
        self._source.push(None)
        yield from self._made()

    def _made(self) -> Iterator[AudioFrame]:
        while True:
            try:
                yield cast(AudioFrame, self._sink.pull())
            except (BlockingIOError, EOFError):
                return
