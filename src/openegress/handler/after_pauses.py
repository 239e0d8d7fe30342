"""Tells a sink of the pauses of a recording that is composed afterwards. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openegress.media import FrameSink
from openegress.output.manifest import Pause, paused_ns

if TYPE_CHECKING:
    import av


class AfterPauses:
    """Implements FrameSink."""

    def __init__(self, sink: FrameSink, pauses: Sequence[Pause], started_at_ns: int) -> None:
        """`pauses`: in order, each with its end. `started_at_ns`: unix ns of media time zero."""
        self._sink = sink
        totals = [paused_ns(pauses[:number]) for number in range(len(pauses) + 1)]
        self._ahead = [
            (each.paused_at_ns - started_at_ns - before, after)
            for each, before, after in zip(pauses, totals, totals[1:], strict=False)
        ]
        """Where each pause lies in media time, and the sum of all until then."""

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        self._resume(pts_ns)
        self._sink.video(frame, pts_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self._resume(pts_ns)
        self._sink.audio(samples, pts_ns, sample_rate)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._sink.resumed(pts_ns, paused_ns)

    def _resume(self, pts_ns: int) -> None:
        while self._ahead and self._ahead[0][0] <= pts_ns:
            _, total_ns = self._ahead.pop(0)
            self._sink.resumed(pts_ns, total_ns)
