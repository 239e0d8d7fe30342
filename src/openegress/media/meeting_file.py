"""Reads a recording of all tracks of a room (layout `tracks`): the publisher of each track, and its
packets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError
from av.packet import Packet as FileBlock
from av.stream import Stream
from av.video.stream import VideoStream

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError, invalid
from openegress.core.units import S
from openegress.media.meeting_track import GAP_NS, MeetingTrack

_CODECS: dict[str, AudioCodec | VideoCodec] = {
    "opus": AudioCodec.OPUS,
    "libopus": AudioCodec.OPUS,
    "pcm_mulaw": AudioCodec.PCMU,
    "pcm_alaw": AudioCodec.PCMA,
    "h264": VideoCodec.H264,
    "hevc": VideoCodec.H265,
    "vp8": VideoCodec.VP8,
    "libvpx": VideoCodec.VP8,
    "vp9": VideoCodec.VP9,
    "libvpx-vp9": VideoCodec.VP9,
    "av1": VideoCodec.AV1,
    "libdav1d": VideoCodec.AV1,
}
_TO_ANNEX_B = {VideoCodec.H264: "h264_mp4toannexb", VideoCodec.H265: "hevc_mp4toannexb"}


@dataclass(frozen=True, slots=True)
class MeetingPacket:
    index: int
    at_ns: int
    data: bytes
    """The packet's data as a room sends it: H264 and H265 with start codes."""
    is_key: bool


_OUT_OF_ORDER_NS = 2 * S
"""Limit for how much later in the file a packet may lie than others of its time."""


class MeetingFile:
    """An open recording of tracks. Methods raise EgressError if FFmpeg cannot read the file."""

    def __init__(self, path: Path) -> None:
        """Raises EgressError if the file cannot be read."""
        self._path = path
        if path.suffix.lower() == ".mcap":
            raise invalid(f'"{path.name}" is an MCAP file, which cannot be read here: record to a .mkv')
        self.tracks = self._scan()
        self.end_ns = max((track.spans_ns[-1][1] for track in self.tracks), default=0)

    def refuse_without_tracks(self) -> None:
        """Raises EgressError if the file is not a recording of tracks."""
        if not self.tracks:
            raise invalid(
                f'"{self._path.name}" holds no tracks of participants: record the room with layout tracks'
            )

    def packets(self, from_ns: int = 0) -> Iterator[MeetingPacket]:
        """Returns all packets from `from_ns` on, and perhaps some before, in file order: by time, give or
        take a second."""
        kept = {track.index: track for track in self.tracks}
        try:
            with av.open(str(self._path), metadata_errors="replace") as container:
                filters = {
                    track.index: BitStreamFilterContext(name, container.streams[track.index])
                    for track in self.tracks
                    if isinstance(track.codec, VideoCodec) and (name := _TO_ANNEX_B.get(track.codec))
                }
                if from_ns > _OUT_OF_ORDER_NS:
                    container.seek((from_ns - _OUT_OF_ORDER_NS) // 1000)
                for block in container.demux([container.streams[index] for index in kept]):
                    if block.pts is None:
                        continue
                    index, at_ns, is_key = block.stream_index, _at_ns(block), block.is_keyframe
                    made = filters[index].filter(block) if index in filters else [block]
                    yield from (MeetingPacket(index, at_ns, bytes(each), is_key) for each in made)
        except (FFmpegError, ValueError) as error:
            raise self._unreadable(error) from error

    def _scan(self) -> list[MeetingTrack]:
        spans: dict[int, list[tuple[int, int]]] = {}
        keys: dict[int, list[int]] = {}
        try:
            with av.open(str(self._path), metadata_errors="replace") as container:
                for block in container.demux():
                    if block.pts is not None:
                        _note(spans.setdefault(block.stream_index, []), _at_ns(block))
                        if block.is_keyframe and isinstance(block.stream, VideoStream):
                            keys.setdefault(block.stream_index, []).append(_at_ns(block))
                return [
                    track
                    for stream in container.streams
                    if (track := _track(stream, spans.get(stream.index, []), keys.get(stream.index, [])))
                    is not None
                ]
        except (FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> EgressError:
        return invalid(f'"{self._path}" cannot be read: {getattr(error, "strerror", None) or error}')


def _at_ns(block: "FileBlock[Stream]") -> int:
    assert block.pts is not None
    return block.pts * S * block.time_base.numerator // block.time_base.denominator


def _note(spans: list[tuple[int, int]], at_ns: int) -> None:
    if spans and at_ns - spans[-1][1] < GAP_NS:
        spans[-1] = (spans[-1][0], max(spans[-1][1], at_ns))
    else:
        spans.append((at_ns, at_ns))


def _track(stream: Stream, spans: list[tuple[int, int]], keys: list[int]) -> MeetingTrack | None:
    tags = {key.upper(): value for key, value in stream.metadata.items()}
    identity = tags.get("PARTICIPANT_IDENTITY")
    codec = _CODECS.get(stream.codec_context.name) if stream.codec_context is not None else None
    if not identity or codec is None or not spans:
        return None
    return MeetingTrack(
        index=stream.index,
        kind=MediaKind.AUDIO if isinstance(codec, AudioCodec) else MediaKind.VIDEO,
        codec=codec,
        identity=identity,
        name=tags.get("PARTICIPANT_NAME", ""),
        source=tags.get("TRACK_SOURCE", "unknown"),
        track_name=tags.get("TRACK_NAME", ""),
        width=stream.codec_context.width if isinstance(stream, VideoStream) else 0,
        height=stream.codec_context.height if isinstance(stream, VideoStream) else 0,
        spans_ns=tuple(spans),
        keys_ns=tuple(keys),
        track_id=tags.get("TRACK_ID", ""),
    )
