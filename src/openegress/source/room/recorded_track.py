"""Turns the frames of one of many published tracks into packets of a file, unchanged.

A publisher who publishes the same source again continues the same file track. Another codec, or other
parameters that are stored outside the media (H.264, H.265, AV1), start another file track.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError
from openegress.media import Packet
from openegress.media.file_track import FileTrack
from openegress.media.passthrough import audio_format, parameter_sets, video_format
from openegress.media.pause_probe import PauseProbe
from openegress.room import EncodedFrame, Track
from openegress.room.sync.picture_line import PictureLine
from openegress.source.room.file_tracks import FileTracks
from openegress.source.room.first_layer import FirstLayer
from openegress.source.room.picture_times import PresentationTimes
from openegress.source.room.pts import AudioPts, VideoPts

MAX_FORMATS = 12
"""Limit for the formats of a track: a sender that changes more often continues in the last one, and its media
states the format."""


class SoundTrack:
    """Writes each packet at its time, and nothing where there is none."""

    def __init__(self, track: Track, tracks: FileTracks, zero_ns: int) -> None:
        """`zero_ns`: unix ns of media time zero."""
        self._track = track
        self._tracks = tracks
        self._zero_ns = zero_ns
        self._places: dict[AudioCodec, tuple[AudioPts, FileTrack | None]] = {}
        self.late_ns = 0
        """How late its last packet is."""

    def renew(self, track: Track) -> list[Packet]:
        """Continues with the track after it was published again. Returns held packets: none, for sound."""
        self._track = track
        return []

    def go_on(self, zero_ns: int) -> None:
        """`zero_ns`: unix ns of media time zero, plus the length of pauses."""
        self._zero_ns = zero_ns

    def take(self, frame: EncodedFrame) -> list[Packet]:
        codec = frame.codec
        assert isinstance(codec, AudioCodec)
        if codec not in self._places:
            pts = AudioPts(codec, PauseProbe(codec).is_pause, sparse=True)
            self._places[codec] = (pts, self._tracks.make(self._track, audio_format(codec)))
        pts, file_track = self._places[codec]
        if file_track is None:
            return []
        placed = pts.place(frame.at_ns - self._zero_ns, frame.rtp_timestamp, frame.data)
        self.late_ns = pts.late_ns
        base = file_track.form.time_base
        return [
            Packet(MediaKind.AUDIO, each.data, each.pts, each.pts, each.duration, base, True, file_track)
            for each in placed
        ]


@dataclass(frozen=True, slots=True)
class _Held:
    frame: EncodedFrame
    sound_late_ns: int


class PictureTrack:
    """Writes pictures of the announced layer from a key frame on, in decode order, each at its time."""

    def __init__(self, track: Track, tracks: FileTracks, zero_ns: int) -> None:
        """`zero_ns`: unix ns of media time zero."""
        self._track = track
        self._tracks = tracks
        self._zero_ns = zero_ns
        self._formats: dict[tuple[VideoCodec, bytes], FileTrack | None] = {}
        """The file tracks, by codec and the parameters stored outside the media."""
        self._file_track: FileTrack | None = None
        self._layer: FirstLayer[_Held] = FirstLayer(track.width, track.height)
        self._lips = PictureLine()
        self._video = VideoPts()
        self._shown = PresentationTimes()
        self._codec: VideoCodec | None = None
        """The codec of the current sequence; None: it waits for a key frame."""
        self.written_bytes = 0

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a layer, and holds pictures."""
        return self._layer.is_waiting

    def renew(self, track: Track) -> list[Packet]:
        """Continues with the track after it was published again. Returns the packets still held."""
        self._track = track
        return self.end_sequence()

    def go_on(self, zero_ns: int) -> None:
        """`zero_ns`: unix ns of media time zero, plus the length of pauses."""
        self._zero_ns = zero_ns

    def end_sequence(self) -> list[Packet]:
        """Ends the sequence: the next picture is a key frame. Returns the packets still held."""
        held = self.begin()
        self._layer = FirstLayer(self._track.width, self._track.height)
        self._shown = PresentationTimes()
        self._codec = None
        return held

    def needs_key(self, frame: EncodedFrame) -> bool:
        """Whether a frame is useless without a new key frame."""
        return not frame.is_key and frame.codec is not self._codec

    def take(self, frame: EncodedFrame, sound_late_ns: int) -> list[Packet]:
        """Takes a frame. `sound_late_ns`: by how much its publisher's sound is written late; pictures are
        delayed by as much."""
        assert isinstance(frame.codec, VideoCodec)
        self._codec = frame.codec
        held = _Held(frame, sound_late_ns)
        return self._packets(self._layer.take(frame.at_ns, frame.width, frame.height, held))

    def begin(self) -> list[Packet]:
        """Stops waiting for a larger layer. Returns the packets held."""
        return self._packets(self._layer.begin()) if self._layer.is_waiting else []

    def _packets(self, pictures: Sequence[_Held]) -> list[Packet]:
        return [packet for each in pictures if (packet := self._packet(each)) is not None]

    def _packet(self, held: _Held) -> Packet | None:
        frame = held.frame
        if frame.is_key:
            self._file_track = self._track_of(frame)
        if self._file_track is None:
            return None
        at_ns = self._lips.place(frame.at_ns - self._zero_ns, held.sound_late_ns)
        pts = self._shown.place(self._video.place(at_ns), frame.rtp_timestamp, is_key=frame.is_key)
        self.written_bytes += len(frame.data)
        base, track = VIDEO_TIME_BASE, self._file_track
        return Packet(MediaKind.VIDEO, frame.data, pts, pts, 0, base, frame.is_key, track)

    def _track_of(self, key_frame: EncodedFrame) -> FileTrack | None:
        codec = key_frame.codec
        assert isinstance(codec, VideoCodec)
        what = (codec, parameter_sets(codec, key_frame.data))
        if what not in self._formats:
            before = self._file_track
            if len(self._formats) >= MAX_FORMATS and before is not None and before.form.codec is codec:
                return before
            self._formats[what] = self._described(codec, key_frame)
        return self._formats[what]

    def _described(self, codec: VideoCodec, key_frame: EncodedFrame) -> FileTrack | None:
        try:
            form = video_format(codec, key_frame.data, key_frame.width, key_frame.height)
        except EgressError:
            return None  # FFmpeg finds no parameters in it, and neither would a player
        return self._tracks.make(self._track, form)
