"""Shifts media that begin at zero again onto the timeline of the recording that they continue."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from openegress.core.units import S
from openegress.media import FrameSink, Packet, PacketSink

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class TimelineShift:
    """Maps a source's media onto the timeline."""

    by_ns: int
    paused_ns: int
    """The pauses before the source began, which the timeline leaves out."""
    from_ns: int = 0
    """In the source's time: earlier media is dropped. 0: none is dropped, not even an encoder's samples from
    before zero."""

    def has(self, pts_ns: int) -> bool:
        return not self.from_ns or pts_ns >= self.from_ns


class ShiftedPackets:
    """A PacketSink that shifts packets and passes them on to another one."""

    def __init__(self, sink: PacketSink, shift: TimelineShift) -> None:
        self._sink = sink
        self._shift = shift

    def write(self, packet: Packet) -> None:
        shift = self._shift
        if not shift.has(packet.pts_ns):
            return
        moved = packet.shifted(Fraction(shift.by_ns, S))
        self._sink.write(replace(moved, paused_ns=packet.paused_ns + shift.paused_ns))


class ShiftedFrames:
    """A FrameSink that shifts frames and passes them on to another one."""

    def __init__(self, sink: FrameSink, shift: TimelineShift) -> None:
        self._sink = sink
        self._shift = shift
        sink.resumed(shift.from_ns + shift.by_ns, shift.paused_ns)

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        if self._shift.has(pts_ns):
            self._sink.video(frame, pts_ns + self._shift.by_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        if self._shift.has(pts_ns):
            self._sink.audio(samples, pts_ns + self._shift.by_ns, sample_rate)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._sink.resumed(pts_ns + self._shift.by_ns, paused_ns + self._shift.paused_ns)
