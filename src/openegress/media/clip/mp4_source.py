"""Reads an MP4 of all tracks (media.mp4_tracks): whole, or only the fragments that a span needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import IO, cast

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet as FileBlock
from av.stream import Stream
from av.video.stream import VideoStream

from openegress.core.codecs import VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip.clipped_tracks import FURTHEST_NS, StoredTrack, TrackPacket
from openegress.media.clip.source import AUDIO_CODECS, TO_ANNEX_B, VIDEO_CODECS, ClipPart, reading, starts_ns


class Mp4Tracks:
    """A ClippedTracks of an MP4. Raises EgressError if the file cannot be read."""

    started_at_ns = 0
    """Our MP4s do not state it."""

    def __init__(self, part: ClipPart, length_ns: int) -> None:
        self._part = part
        self.length_ns = length_ns
        with reading():
            self._container = _opened(part)
        self._is_read = False
        found = (_track(stream) for stream in self._container.streams)
        self.tracks: Mapping[int, StoredTrack] = {each.number: each for each in found if each is not None}

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        with reading():
            self._seek(max(0, begin_ns - FURTHEST_NS))
            convert = {
                number: BitStreamFilterContext(name, self._container.streams[number])
                for number, track in self.tracks.items()
                if isinstance(track.codec, VideoCodec) and (name := TO_ANNEX_B.get(track.codec))
            }
            for block in self._container.demux([self._container.streams[number] for number in self.tracks]):
                if block.pts is None or not block.size:
                    continue
                number = block.stream_index
                # A filter consumes its input.
                told = _told(self.tracks[number], block)
                if told.pts_ns > end_ns + FURTHEST_NS:
                    return
                for each in convert[number].filter(block) if number in convert else [block]:
                    yield TrackPacket(number, replace(told, data=bytes(each)))

    def close(self) -> None:
        self._container.close()

    def _seek(self, at_ns: int) -> None:
        """Moves each track to its own last key frame before that time, or to its first."""
        if self._part.is_indexed:
            # FFmpeg moves all streams to where the given one has a sample, which must not be later.
            stream, at = _leading([self._container.streams[number] for number in self.tracks], at_ns)
            self._container.seek(at, backward=True, stream=stream)
        elif self._is_read:
            self._container.close()
            self._container = _opened(self._part)
        self._is_read = True


def _leading(streams: Sequence[Stream], at_ns: int) -> tuple[Stream, int]:
    """Returns a stream that sends at that time, preferably sound, and the time in its time base. If none has
    begun: the first one, and its start."""
    begun = [each for each in streams if starts_ns(each) <= at_ns]
    if not begun:
        first = min(streams, key=starts_ns)
        return first, first.start_time or 0

    def reaches(stream: Stream) -> tuple[int, bool]:
        end_ns = starts_ns(stream) + round((stream.duration or 0) * Fraction(stream.time_base or 0) * S)
        return min(end_ns, at_ns), not isinstance(stream, VideoStream)

    chosen = max(begun, key=reaches)
    return chosen, round(Fraction(at_ns, S) / Fraction(chosen.time_base or 1))


def is_of_tracks(part: ClipPart) -> bool:
    """Whether the file's handlers name the participant of each track. Raises EgressError if it cannot be
    read."""
    with reading(), _opened(part) as container:
        return any("/" in stream.metadata.get("handler_name", "") for stream in container.streams)


def _opened(part: ClipPart) -> InputContainer:
    part.file.seek(0)
    file = cast("IO[bytes]", part.file)
    return cast(InputContainer, av.open(file, format="mp4", metadata_errors="replace"))


def _told(track: StoredTrack, block: "FileBlock[Stream]") -> Packet:
    """Returns the packet without its data."""
    assert block.pts is not None
    duration, is_key = block.duration or 0, bool(block.is_keyframe)
    return Packet(track.kind, b"", block.pts, block.pts, duration, block.time_base, is_key)


def _track(stream: Stream) -> StoredTrack | None:
    """Describes a stream; None for a track of chapters."""
    name = stream.codec_context.name if stream.codec_context is not None else ""
    codec = VIDEO_CODECS.get(name) or AUDIO_CODECS.get(name)
    if codec is None:
        return None
    identity, _, source = stream.metadata.get("handler_name", "").rpartition("/")
    size = (0, 0)
    if isinstance(stream, VideoStream):
        size = (stream.codec_context.width, stream.codec_context.height)
    tags = (("PARTICIPANT_IDENTITY", identity), ("TRACK_SOURCE", source))
    return StoredTrack(stream.index, codec, stream.metadata.get("name", ""), tags, *size)
