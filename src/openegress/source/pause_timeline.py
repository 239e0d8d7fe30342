"""Keeps the time of a source that runs on while its recording is paused, as a web page does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openegress.core.pause_mode import PauseMode
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.source.cuts import Cuts

if TYPE_CHECKING:
    import av

_SAMPLE_BYTES = 4
"""Bytes of a sample of s16 stereo."""


class PauseTimeline:
    """The pauses of one recording. Only the event loop changes it; the threads that capture read it. Times
    are ns since media time zero: the source's, unless they are called the recording's."""

    def __init__(self) -> None:
        self.mode = PauseMode.CUT
        """Whether the pauses of the recording are cut or held."""
        self.pauses = Cuts()
        """The pauses, cut or held. Each pause replaces the value as a whole."""

    @property
    def begins_ns(self) -> int | None:
        """Where the current pause begins; None: there is none."""
        return self.pauses.open_ns

    @property
    def left_out_ns(self) -> int:
        """By how much the recording is shorter, not counting the current pause."""
        return 0 if self.mode is PauseMode.HOLD else self.pauses.length_ns(len(self.pauses.over) - 1)

    def begin(self, now_ns: int, mode: PauseMode) -> int:
        """Begins a pause. Returns the time from which nothing is recorded, a moment later than `now_ns`."""
        self.mode = mode
        self.pauses = self.pauses.begun(now_ns)
        return self.pauses.edge_ns

    def ended(self, now_ns: int) -> Cuts:
        """The pauses with the current one ended. The caller sets `pauses` to them."""
        return self.pauses.ended(now_ns)

    def recorded_ns(self, at_ns: int) -> int:
        """The recording's time at a time of the source."""
        return at_ns if self.mode is PauseMode.HOLD else self.pauses.recorded_ns(at_ns)

    def left_out_before_ns(self, sample: int, rate: int) -> int:
        """How much of the source's time before one of its samples is missing from the recording."""
        return sum(
            end_ns - begin_ns
            for begin_ns, end_ns in self.pauses.ranges
            if end_ns is not None and begin_ns * rate // S <= sample
        )

    def heard(self, first: int, count: int, rate: int) -> Iterator[tuple[int, int]]:
        """(begin, end) of the spans that are recorded among the source's samples `first` to `first +
        count`."""
        at, end = first, first + count
        for begin_ns, end_ns in self.pauses.ranges:
            begin = begin_ns * rate // S
            if begin >= end:
                break
            if begin > at:
                yield at, begin
            at = max(at, end if end_ns is None else min(end, end_ns * rate // S))
        if at < end:
            yield at, end


class PausedSound:
    """A FrameSink for sound that continues while its recording is paused: sound of a pause is left out, or
    silenced. Everything else passes unchanged."""

    def __init__(self, sink: FrameSink, timeline: PauseTimeline) -> None:
        self._sink = sink
        self._timeline = timeline
        self._position = 0
        """Samples received."""
        self._given = 0
        """Samples passed on."""

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        self._sink.video(frame, pts_ns)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._sink.resumed(pts_ns, paused_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Takes sound in the source's time."""
        first, count = self._position, len(samples) // _SAMPLE_BYTES
        self._position += count
        heard = list(self._timeline.heard(first, count, sample_rate))
        if heard == [(first, first + count)] and self._given == first:
            self._give(samples, sample_rate)
        elif self._timeline.mode is PauseMode.HOLD:
            block = bytearray(len(samples))
            for begin, end in heard:
                part = slice((begin - first) * _SAMPLE_BYTES, (end - first) * _SAMPLE_BYTES)
                block[part] = samples[part]
            self._give(bytes(block), sample_rate)
        else:
            for begin, end in heard:
                left_out_ns = self._timeline.left_out_before_ns(begin, sample_rate)
                ahead = self._given - (begin - left_out_ns * sample_rate // S)
                # If a pause became known late, as much sound is missing after it as was passed on too much
                # before it.
                begin = min(end, begin + max(0, ahead))
                part = slice((begin - first) * _SAMPLE_BYTES, (end - first) * _SAMPLE_BYTES)
                self._give(bytes(max(0, -ahead) * _SAMPLE_BYTES) + samples[part], sample_rate)

    def _give(self, samples: bytes, sample_rate: int) -> None:
        if samples:
            self._sink.audio(samples, self._given * S // sample_rate, sample_rate)
            self._given += len(samples) // _SAMPLE_BYTES
