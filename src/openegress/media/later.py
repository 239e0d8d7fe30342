"""Moves media that begin at zero again onto the timeline of the recording they continue."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from openegress.core.units import S
from openegress.media import FrameSink, Packet, PacketSink

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class Later:
    """How a source's media map onto the timeline."""

    by_ns: int
    paused_ns: int
    """The pauses before the source began, which the timeline leaves out."""
    from_ns: int = 0
    """In the source's time: earlier media is dropped. 0: nothing is, not even an encoder's samples before
    zero."""

    def has(self, pts_ns: int) -> bool:
        return not self.from_ns or pts_ns >= self.from_ns


class LaterPackets:
    """A PacketSink in front of another."""

    def __init__(self, sink: PacketSink, later: Later) -> None:
        self._sink = sink
        self._later = later

    def write(self, packet: Packet) -> None:
        later = self._later
        if not later.has(packet.pts_ns):
            return
        ticks = round(Fraction(later.by_ns, S) / packet.time_base)
        paused_ns = packet.paused_ns + later.paused_ns
        self._sink.write(replace(packet, pts=packet.pts + ticks, dts=packet.dts + ticks, paused_ns=paused_ns))


class LaterFrames:
    """A FrameSink in front of another."""

    def __init__(self, sink: FrameSink, later: Later) -> None:
        self._sink = sink
        self._later = later
        sink.resumed(later.from_ns + later.by_ns, later.paused_ns)

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        if self._later.has(pts_ns):
            self._sink.video(frame, pts_ns + self._later.by_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        if self._later.has(pts_ns):
            self._sink.audio(samples, pts_ns + self._later.by_ns, sample_rate)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._sink.resumed(pts_ns + self._later.by_ns, paused_ns + self._later.paused_ns)
