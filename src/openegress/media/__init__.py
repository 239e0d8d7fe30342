"""Types of media on one timeline: encoded packets, and the protocols for sinks of packets and raw frames.

All times are on the egress' timeline: 0 is media time zero (the Active event). FFmpeg does the work, in
process, through PyAV; Python only passes frames and packets on.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S

if TYPE_CHECKING:  # types only, so that naming a packet loads no FFmpeg
    import av
    from av.stream import Stream

    from openegress.media.file_track import DataTopic, FileTrack


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded access unit, not yet in a container."""

    kind: MediaKind
    data: bytes
    pts: int
    dts: int
    duration: int
    """Duration in the time base; 0: unknown."""
    time_base: Fraction
    is_key: bool
    track: "FileTrack | None" = None
    """The track among many that it belongs to; None: the only one of its kind."""
    topic: "DataTopic | None" = None
    """The topic of a data packet; None: it is media."""
    paused_ns: int = 0
    """Total length of the pauses until then, which the timeline leaves out."""
    picture_size: tuple[int, int] = (0, 0)
    """Width and height that the publisher encoded in a key frame, over all its layers; zeros: unknown."""

    @property
    def pts_ns(self) -> int:
        # Integers: this runs several times for every packet, and Fraction takes microseconds.
        return self.pts * S * self.time_base.numerator // self.time_base.denominator

    def shifted(self, by_s: Fraction) -> "Packet":
        """The packet at a time that is later by that much, in its own time base."""
        ticks = round(by_s / self.time_base)
        return replace(self, pts=self.pts + ticks, dts=self.dts + ticks)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a muxer must know about a stream before its first packet."""

    kind: MediaKind
    codec: AudioCodec | VideoCodec
    time_base: Fraction
    template: "Stream | None"
    """The stream whose codec parameters (extradata included) are copied; None: the codec needs none."""
    kbps: int
    """Bit rate; 0: unknown, because nobody here encodes the stream."""
    width: int = 0
    height: int = 0
    framerate: int = 0
    sample_rate: int = 0
    channels: int = 0
    has_variable_rate: bool = False
    """Whether a picture lasts until the next one, whatever its packet's duration says."""

    @property
    def is_sound(self) -> bool:
        return self.kind is MediaKind.AUDIO

    @property
    def is_passed_through(self) -> bool:
        """Whether the stream is video that is recorded as its publisher encodes it, with the publisher's key
        frames."""
        return self.kind is MediaKind.VIDEO and not self.kbps


class PacketSink(Protocol):
    """Takes encoded packets. Called from media threads; never blocks."""

    def write(self, packet: Packet) -> None: ...


class FrameSink(Protocol):
    """Takes raw media from a source. Called from the source's own threads; never blocks for long.

    Video frames are yuv420p, BT.709 limited range, already in the recording's size; pts_ns rises strictly.
    A frame object given again is the same picture. Nobody may write to a frame once it is given.
    Audio is interleaved s16 stereo; blocks are contiguous: the first starts at 0 and each begins where
    the last ended (a source fills its own gaps with silence).
    """

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None: ...

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None: ...

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """Reports that everything from here on, at `pts_ns` or later, follows a pause. The timeline leaves
        out `paused_ns`, the sum of all pauses so far."""
