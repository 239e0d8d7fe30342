"""Reads a Matroska file of all tracks (media.matroska) as it is now: by its clusters while it grows, by its
index once it is complete."""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from openegress.core.annex_b import START_CODE
from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.units import MS
from openegress.media import Packet
from openegress.media.clip import Bytes, common_end_ns
from openegress.media.clip.clipped_tracks import (
    FURTHEST_NS,
    StoredTrack,
    TrackPacket,
    WantedKeys,
    never_before,
)
from openegress.media.clip.stitched import Stitched
from openegress.media.cluster_index import HEADER_BYTES, MAX_CLUSTER_BYTES, WebmError, header_parts
from openegress.media.ebml import Element, elements, number_at
from openegress.media.matroska import CODEC_IDS
from openegress.media.matroska_head import EPOCH_2001_NS

_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _DATE, _DURATION = 0x1549A966, 0x4461, 0x4489
_TRACKS, _ENTRY, _NUMBER, _UID, _NAME, _CODEC = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x536E, 0x86
_VIDEO, _WIDTH, _HEIGHT, _PRIVATE = 0xE0, 0xB0, 0xBA, 0x63A2
_TAGS, _TAG, _TARGETS, _TAG_UID = 0x1254C367, 0x7373, 0x63C0, 0x63C5
_SIMPLE, _TAG_NAME, _TAG_TEXT = 0x67C8, 0x45A3, 0x4487
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
_CUES, _POINT, _AT, _POSITIONS, _OFFSET = 0x1C53BB6B, 0xBB, 0xB3, 0xB7, 0xF1
_CLUSTER_HEAD_BYTES = 12
_MAX_CUES_BYTES = 256 * 1024 * 1024
_LAST_CLUSTERS = 8
"""Number of clusters at the end whose tracks show how far the file reaches."""
_KEY = 0x80
_A_LAW = 6
_OF_NAL_UNITS = (VideoCodec.H264, VideoCodec.H265)
_TIME_BASE = Fraction(1, 1000)
_CODECS = {name: codec for codec, name in CODEC_IDS.items() if name != CODEC_IDS[AudioCodec.PCMU]}


@dataclass(frozen=True, slots=True)
class _Block:
    track: int
    at_ms: int
    is_key: bool
    data: bytes


@dataclass(slots=True)
class _Head:
    started_at_ns: int = 0
    duration_ms: float = 0
    tracks: dict[int, StoredTrack] = field(default_factory=dict)
    cues_at: int = 0
    """Position of the index; 0: the file has none yet."""
    end: int = 0
    """Position of the first cluster."""
    segment: int = 0
    """The offset that positions in the file are relative to."""


class MatroskaTracks:
    """A ClippedTracks of the first `size` bytes of a file, which may grow meanwhile. Raises EgressError if it
    is not such a file."""

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self._size = file.size()
        self._content = Stitched.whole(file)
        try:
            self._head = _head(file.read_at(0, HEADER_BYTES))
        except (WebmError, struct.error) as error:
            raise invalid(f"the recording cannot be read: {error}") from error
        self.tracks: Mapping[int, StoredTrack] = self._head.tracks
        self.started_at_ns = self._head.started_at_ns
        self._places = self._indexed() or self._walked()
        """(ms, offset) of clusters, in order, but not of every cluster."""
        if not self._places:
            raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
        self.length_ns = round(self._head.duration_ms * MS) or self._reached_ns()

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        first = self._first(max(0, begin_ns - FURTHEST_NS))
        wanted = WantedKeys(begin_ns)
        wanted.after(self._pictures(self._places[first][1], self._size, wanted.until_ns // MS))
        while wanted.missing and first:
            first -= 1
            wanted.before(self._pictures(self._places[first][1], self._places[first + 1][1]))
        for block in self._blocks(self._places[first][1], self._size, (end_ns + FURTHEST_NS) // MS):
            if (track := self.tracks.get(block.track)) is not None:
                yield TrackPacket(track.number, _packet(track, block))

    def close(self) -> None:
        """Does nothing: the file belongs to its owner."""

    def _first(self, at_ns: int) -> int:
        """Returns the last place before that time, or the first of all."""
        return max(0, bisect_right(self._places, at_ns // MS, key=lambda each: each[0]) - 1)

    def _pictures(self, start: int, end: int, until_ms: int | None = None) -> Iterator[tuple[int, int, bool]]:
        for block in self._blocks(start, end, until_ms):
            track = self.tracks.get(block.track)
            if track is not None and track.kind is MediaKind.VIDEO:
                yield block.track, block.at_ms * MS, block.is_key

    def _blocks(self, start: int, end: int, until_ms: int | None = None) -> Iterator[_Block]:
        """Reads blocks of clusters between two places of the file that begin no later than `until_ms`."""
        for cluster in self._clusters(start, end):
            self._content.seek(cluster.start)
            data = self._content.read(cluster.end - cluster.start)
            begin_ms, blocks = _blocks_in(data)
            if until_ms is not None and begin_ms > until_ms:
                return
            yield from blocks

    def _clusters(self, start: int, end: int) -> Iterator[Element]:
        at = start
        while at + _CLUSTER_HEAD_BYTES <= end:
            self._content.seek(at)
            each = self._whole_cluster(self._content.read(_CLUSTER_HEAD_BYTES), at)
            if each is None:
                return
            yield each
            at = each.end

    def _whole_cluster(self, start: bytes, at: int) -> Element | None:
        """Returns a cluster's place in the file, given its first bytes and their offset; None if it is not
        whole."""
        each = next(elements(start, 0, len(start)), None)
        if each is None or each.kind != _CLUSTER or not 0 < each.end <= MAX_CLUSTER_BYTES:
            return None
        whole = Element(each.kind, at, at + each.data, at + each.end)
        return whole if whole.end <= self._size else None

    def _walked(self) -> list[tuple[int, int]]:
        """Finds the places of all whole clusters from the first bytes of each."""
        found: list[tuple[int, int]] = []
        at = self._head.end
        while len(start := self._file.read_at(at, _CLUSTER_HEAD_BYTES + 10)) == _CLUSTER_HEAD_BYTES + 10:
            each = self._whole_cluster(start, at)
            if each is None:
                break
            found.append((int.from_bytes(start[-8:], "big"), at))
            at = each.end
        return _rising(found)

    def _indexed(self) -> list[tuple[int, int]]:
        """Reads the places from the index; empty if there is none."""
        head = self._head
        if not head.cues_at or head.cues_at >= self._size:
            return []
        data = self._file.read_at(head.cues_at, min(self._size - head.cues_at, _MAX_CUES_BYTES))
        cues = next(elements(data, 0, len(data)), None)
        if cues is None or cues.kind != _CUES:
            return []
        points = [_point(data, each) for each in elements(data, cues.data, cues.end) if each.kind == _POINT]
        places = {(at_ms, head.segment + offset) for at_ms, offset in points}
        return _rising(sorted({(0, head.end), *places}, key=lambda each: each[::-1]))

    def _reached_ns(self) -> int:
        """Returns the time up to which everything recorded is on disk."""
        start = self._places[-min(_LAST_CLUSTERS, len(self._places))][1]
        ends: dict[int, int] = {}
        for block in self._blocks(start, self._size):
            ends[block.track] = max(ends.get(block.track, 0), block.at_ms * MS)
        return common_end_ns(ends.values())


def _rising(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the places in file order, each with a time before which no later cluster begins."""
    starts = never_before([at_ms for at_ms, _ in places])
    return [(at_ms, offset) for at_ms, (_, offset) in zip(starts, places, strict=True)]


def _head(data: bytes) -> _Head:
    """Reads the elements before the first cluster. Raises WebmError."""
    segment, parts = header_parts(data)
    found = _Head(end=parts[-1].end, segment=segment.data)
    tags: dict[int, list[tuple[str, str]]] = {}
    for part in parts:
        if part.kind == _TAGS:
            tagged = elements(data, part.data, part.end)
            tags |= dict(_tag(data, each) for each in tagged if each.kind == _TAG)
    for part in parts:
        inside = list(elements(data, part.data, part.end))
        if part.kind == _SEEK_HEAD:
            found.cues_at = _cues_at(data, inside, segment.data)
        elif part.kind == _INFO:
            values = _values(data, part.data, part.end)
            found.started_at_ns = EPOCH_2001_NS + int.from_bytes(values.get(_DATE, b""), "big", signed=True)
            found.duration_ms = struct.unpack(">d", values[_DURATION])[0] if _DURATION in values else 0
        elif part.kind == _TRACKS:
            made = (_track(data, each, tags) for each in inside if each.kind == _ENTRY)
            found.tracks = {each.number: each for each in made if each is not None}
    return found


def _cues_at(data: bytes, seeks: list[Element], segment: int) -> int:
    for seek in seeks:
        values = _values(data, seek.data, seek.end)
        if seek.kind == _SEEK and int.from_bytes(values.get(_SEEK_ID, b""), "big") == _CUES:
            return segment + int.from_bytes(values.get(_SEEK_POSITION, b""), "big")
    return 0


def _track(data: bytes, entry: Element, tags: Mapping[int, list[tuple[str, str]]]) -> StoredTrack | None:
    """Reads a track; None if no recording of ours has its codec."""
    values = _values(data, entry.data, entry.end)
    size = values.get(_VIDEO, b"")
    sizes = {kind: int.from_bytes(value, "big") for kind, value in _values(size, 0, len(size)).items()}
    codec = _codec(_text(values.get(_CODEC, b"")), values.get(_PRIVATE, b""))
    if codec is None:
        return None
    return StoredTrack(
        int.from_bytes(values.get(_NUMBER, b""), "big"),
        codec,
        _text(values.get(_NAME, b"")),
        tuple(tags.get(int.from_bytes(values.get(_UID, b""), "big"), ())),
        sizes.get(_WIDTH, 0),
        sizes.get(_HEIGHT, 0),
    )


def _codec(name: str, private: bytes) -> AudioCodec | VideoCodec | None:
    """Returns the codec of a name. Both kinds of G.711 share one name; the WAVEFORMATEX in `private`
    distinguishes them."""
    if name == CODEC_IDS[AudioCodec.PCMU]:
        return AudioCodec.PCMA if private[:1] == bytes((_A_LAW,)) else AudioCodec.PCMU
    return _CODECS.get(name)


def _tag(data: bytes, tag: Element) -> tuple[int, list[tuple[str, str]]]:
    uid, found = 0, []
    for each in elements(data, tag.data, tag.end):
        values = _values(data, each.data, each.end)
        if each.kind == _TARGETS:
            uid = int.from_bytes(values.get(_TAG_UID, b""), "big")
        elif each.kind == _SIMPLE:
            found.append((_text(values.get(_TAG_NAME, b"")), _text(values.get(_TAG_TEXT, b""))))
    return uid, found


def _point(data: bytes, point: Element) -> tuple[int, int]:
    """Reads (ms, offset within the segment) of a cue point."""
    at_ms = offset = 0
    for each in elements(data, point.data, point.end):
        if each.kind == _AT:
            at_ms = int.from_bytes(data[each.data : each.end], "big")
        elif each.kind == _POSITIONS:
            for one in elements(data, each.data, each.end):
                if one.kind == _OFFSET:
                    offset = int.from_bytes(data[one.data : one.end], "big")
    return at_ms, offset


def _blocks_in(data: bytes) -> tuple[int, list[_Block]]:
    """Returns when a cluster begins, and its blocks."""
    cluster = next(elements(data, 0, len(data)))
    begin_ms, blocks = 0, []
    for each in elements(data, cluster.data, cluster.end):
        if each.kind == _TIMESTAMP:
            begin_ms = int.from_bytes(data[each.data : each.end], "big")
        elif each.kind == _SIMPLE_BLOCK:
            track, at = number_at(data, each.data)
            if at == each.data or at + 3 > each.end:
                continue
            at_ms = max(0, begin_ms + int.from_bytes(data[at : at + 2], "big", signed=True))
            blocks.append(_Block(track, at_ms, bool(data[at + 2] & _KEY), data[at + 3 : each.end]))
    return begin_ms, blocks


def _packet(track: StoredTrack, block: _Block) -> Packet:
    data = _with_start_codes(block.data) if track.codec in _OF_NAL_UNITS else block.data
    return Packet(track.kind, data, block.at_ms, block.at_ms, 0, _TIME_BASE, block.is_key)


def _with_start_codes(data: bytes) -> bytes:
    """Converts NAL units with size prefixes (ISO/IEC 14496-15 5.3.3) to start codes."""
    parts: list[bytes] = []
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts += (START_CODE, data[at + 4 : at + 4 + size])
        at += 4 + size
    return b"".join(parts)


def _values(data: bytes, start: int, end: int) -> dict[int, bytes]:
    return {each.kind: data[each.data : each.end] for each in elements(data, start, end)}


def _text(value: bytes) -> str:
    return value.decode(errors="replace").rstrip("\0")
