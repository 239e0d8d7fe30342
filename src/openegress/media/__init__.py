"""Media on one timeline: encoded packets, raw frames, and the seams they pass through.

All times are on the egress' timeline: 0 is media time zero (the Active event). FFmpeg does the work, in
process, through PyAV; Python only passes frames and packets on.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S

if TYPE_CHECKING:  # types alone: whoever names a packet loads no FFmpeg
    import av
    from av.stream import Stream

    from openegress.media.file_track import DataTopic, FileTrack


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded access unit, belonging to no container yet."""

    kind: MediaKind
    data: bytes
    pts: int
    dts: int
    duration: int
    """0: unknown."""
    time_base: Fraction
    is_key: bool
    track: "FileTrack | None" = None
    """Which of many tracks it is of; None: the only one of its kind."""
    topic: "DataTopic | None" = None
    """What data it is, where it is no media."""
    paused_ns: int = 0
    """How much of the time until then is not on the timeline, as the recording was paused."""
    picture_size: tuple[int, int] = (0, 0)
    """Width and height that a key frame as its publisher encodes it shows, all its layers together; zeros:
    nobody told."""

    @property
    def pts_ns(self) -> int:
        # In integers: asked several times for every packet, and Fraction takes microseconds.
        return self.pts * S * self.time_base.numerator // self.time_base.denominator


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What a muxer must know of a stream before its first packet."""

    kind: MediaKind
    codec: AudioCodec | VideoCodec
    time_base: Fraction
    template: "Stream | None"
    """A stream whose codec parameters (extradata included) are copied; None where the codec needs none."""
    kbps: int
    """0: unknown, as nobody here encodes it."""
    width: int = 0
    height: int = 0
    framerate: int = 0
    sample_rate: int = 0
    channels: int = 0
    has_variable_rate: bool = False
    """A picture lasts until the next one comes, whatever its packet's duration says."""

    @property
    def is_sound(self) -> bool:
        return self.kind is MediaKind.AUDIO

    @property
    def is_passed_through(self) -> bool:
        """Video that is recorded as its publisher encodes it, with key frames of its own."""
        return self.kind is MediaKind.VIDEO and not self.kbps


class PacketSink(Protocol):
    """Takes encoded packets. Called from media threads; never blocks."""

    def write(self, packet: Packet) -> None: ...


class FrameSink(Protocol):
    """Takes raw media from a source. Called from the source's own threads; never blocks for long.

    Video frames are yuv420p, BT.709 limited range, already in the recording's size; pts_ns rises strictly.
    The same frame object again is the same picture: it is not written to once it was given.
    Audio is interleaved s16 stereo; blocks are contiguous: the first starts at 0 and each begins where
    the last ended (a source fills its own gaps with silence).
    """

    def video(self, frame: "av.VideoFrame", pts_ns: int) -> None: ...

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None: ...

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """What comes from here on, at `pts_ns` or later, follows a pause. All pauses until then took
        `paused_ns`, which the timeline does not have."""
