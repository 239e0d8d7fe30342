"""Reads an MCAP file of all tracks (media.mcap) as it is now: by its chunks while it grows, by its summary
once it is complete."""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip import Bytes
from openegress.media.clip.clipped_tracks import (
    FURTHEST_NS,
    StoredTrack,
    TrackPacket,
    WantedKeys,
    never_before,
)
from openegress.media.clip.stitched import Stitched
from openegress.media.key_frames import is_key_frame
from openegress.media.mcap import RECORDING, STARTED_AT
from openegress.media.mcap_index import MAX_RECORD_BYTES
from openegress.media.mcap_records import (
    CHUNK_HEAD_BYTES,
    HEAD_BYTES,
    MAGIC,
    ChunkPlace,
    Opcode,
    channel_in,
    chunk_head,
    chunk_place,
    message_in,
    record_head,
    summary_start,
    texts_of,
)
from openegress.media.mcap_schemas import SCHEMA_BY_KIND

_TIME_BASE = Fraction(1, S)
_CODECS: dict[str, AudioCodec | VideoCodec] = {each.value: each for each in (*AudioCodec, *VideoCodec)}
_FOOTER_BYTES = HEAD_BYTES + 20 + len(MAGIC)
_MAX_SUMMARY_BYTES = 256 * 1024 * 1024
_TAGS = ("participant_identity", "participant_name", "track_id", "track_name", "track_source", "topic")


@dataclass(slots=True)
class _Told:
    """The records of a file, except chunks."""

    started_at_ns: int = 0
    tracks: dict[int, StoredTrack] = field(default_factory=dict)
    chunks: list[ChunkPlace] = field(default_factory=list)


class McapTracks:
    """A ClippedTracks of the present part of a file, which may grow meanwhile. Raises EgressError if it is
    not such a file."""

    def __init__(self, file: Bytes) -> None:
        self._size = file.size()
        self._content = Stitched.whole(file)
        try:
            if self._read(0, len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as an MCAP file does")
            self._told = self._summarised() or self._walked()
        except (struct.error, ValueError, KeyError) as error:
            raise invalid(f"the recording cannot be read: {error}") from error
        if not self._told.chunks:
            raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
        self.tracks: Mapping[int, StoredTrack] = self._told.tracks
        self.started_at_ns = self._told.started_at_ns
        self._chunks = sorted(self._told.chunks, key=lambda each: each.offset)
        self._starts = never_before([each.start_ns for each in self._chunks])
        self.length_ns = max(each.end_ns for each in self._chunks) - self.started_at_ns

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        begin, end = self.started_at_ns + begin_ns, self.started_at_ns + end_ns
        first = max(0, bisect_right(self._starts, begin - FURTHEST_NS) - 1)
        wanted = WantedKeys(begin_ns)
        last = bisect_right(self._starts, self.started_at_ns + wanted.until_ns)
        wanted.after(self._pictures(first, last))
        while wanted.missing and first:
            first -= 1
            wanted.before(self._pictures(first, first + 1))
        for number in range(first, len(self._chunks)):
            if self._starts[number] > end + FURTHEST_NS:
                return
            yield from self._packets_of(number)

    def close(self) -> None:
        """Does nothing: the file belongs to its owner."""

    def _pictures(self, first: int, end: int) -> Iterator[tuple[int, int, bool]]:
        for number in range(first, end):
            for each in self._packets_of(number):
                if each.packet.kind is MediaKind.VIDEO:
                    yield each.number, each.packet.pts, each.packet.is_key

    def _packets_of(self, number: int) -> Iterator[TrackPacket]:
        place = self._chunks[number]
        chunk = self._read(place.offset, place.length)
        at = HEAD_BYTES + CHUNK_HEAD_BYTES
        while at + HEAD_BYTES <= len(chunk):
            opcode, length = record_head(chunk, at)
            content = chunk[at + HEAD_BYTES : at + HEAD_BYTES + length]
            at += HEAD_BYTES + length
            if opcode == Opcode.MESSAGE:
                channel, at_ns, data = message_in(content)
                if (track := self.tracks.get(channel)) is not None:
                    yield TrackPacket(channel, _packet(track, at_ns - self.started_at_ns, data))

    def _read(self, at: int, size: int) -> bytes:
        self._content.seek(at)
        return self._content.read(size)

    def _summarised(self) -> _Told | None:
        """Reads the summary; None if there is none yet."""
        tail = self._read(max(0, self._size - _FOOTER_BYTES), _FOOTER_BYTES)
        start = summary_start(tail)
        if not 0 < start < self._size or self._size - start > _MAX_SUMMARY_BYTES:
            return None
        found = _Told()
        for opcode, at, _, length in self._records(start):
            if opcode == Opcode.CHUNK_INDEX:
                found.chunks.append(chunk_place(self._read(at + HEAD_BYTES, length)))
            else:
                self._note(found, opcode, at, length)
        for opcode, at, _, length in self._records(len(MAGIC)):
            if opcode == Opcode.CHUNK:
                break
            self._note(found, opcode, at, length)
        return found

    def _walked(self) -> _Told:
        found = _Told()
        for opcode, at, end, length in self._records(len(MAGIC)):
            if opcode == Opcode.CHUNK:
                head = chunk_head(self._read(at + HEAD_BYTES, CHUNK_HEAD_BYTES))
                if head is None:
                    break
                found.chunks.append(ChunkPlace(head.start_ns, head.end_ns, at, end - at))
            else:
                self._note(found, opcode, at, length)
        return found

    def _records(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Reads (opcode, start, end, length of the content) of all whole records."""
        while at + HEAD_BYTES <= self._size:
            opcode, length = record_head(self._read(at, HEAD_BYTES))
            end = at + HEAD_BYTES + length
            if length > MAX_RECORD_BYTES or end > self._size:
                return
            yield opcode, at, end, length
            at = end

    def _note(self, found: _Told, opcode: int, at: int, length: int) -> None:
        if opcode == Opcode.CHANNEL:
            track = _track(*channel_in(self._read(at + HEAD_BYTES, length)))
            if track is not None:
                found.tracks[track.number] = track
        elif opcode == Opcode.METADATA:
            name, values = texts_of(self._read(at + HEAD_BYTES, length))
            if name == RECORDING:
                found.started_at_ns = int(values[STARTED_AT])


def _track(number: int, values: dict[str, str]) -> StoredTrack | None:
    codec = _CODECS.get(values.get("codec", ""))
    if codec is None and values.get("kind") != MediaKind.DATA.value:
        return None
    tags = tuple((name.upper(), values[name]) for name in _TAGS if values.get(name))
    width, height = int(values.get("width", 0)), int(values.get("height", 0))
    return StoredTrack(number, codec, values.get("name", ""), tags, width, height)


def _packet(track: StoredTrack, at_ns: int, data: bytes) -> Packet:
    codec = track.codec
    if codec is not None:
        data = SCHEMA_BY_KIND[track.kind].data_in(data)
    is_key = is_key_frame(codec, data) if isinstance(codec, VideoCodec) else True
    return Packet(track.kind, data, at_ns, at_ns, 0, _TIME_BASE, is_key)
