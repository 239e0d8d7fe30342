"""What a file of clusters holds (media.clusters), and how it gets its index and its duration (RFC 9559).

In place: the clusters stay where they are, the index follows them, and the header has room for the rest.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _VOID, _INFO, _TRACKS = 0x18538067, 0xEC, 0x1549A966, 0x1654AE6B
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _CUES = 0x1F43B675, 0xE7, 0xA3, 0x1C53BB6B
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE = 0xAE, 0xD7, 0x83
_VIDEO = 1

_HEADER_BYTES = 64 * 1024
"""More than any header of FFmpeg's takes."""
_MAX_CLUSTER_BYTES = 256 * 1024 * 1024
"""Half a second of media; more is damage."""
_CUE_EVERY_MS = 5_000
"""Of sound alone, in which each cluster could be an entry."""
_SEGMENT_HEAD_BYTES = 12
"""With its size in eight."""
_SEEK_HEAD_BYTES = 96
"""Three entries and what fills the rest."""
_LATEST_MS = 1 << 50
"""No cluster is later."""
_DURATION = 0x4489
_DURATION_BYTES = 11
"""Of the element, for which FFmpeg leaves room in Info."""


class WebmError(ValueError):
    """The file is not the WebM it should be."""


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    start: int
    data: int
    """Where its content begins."""
    end: int


@dataclass(slots=True)
class _Found:
    cues: list[tuple[int, int, int]] = field(default_factory=list)
    """(ms, track, offset of the cluster within the segment)."""
    last_ms: dict[int, int] = field(default_factory=dict)
    steps_ms: dict[int, int] = field(default_factory=dict)
    """Of each track, between its last two blocks."""
    end: int = 0
    """Where the last whole cluster ends."""

    @property
    def duration_ms(self) -> int:
        return max((at + self.steps_ms.get(track, 0) for track, at in self.last_ms.items()), default=0)


def make_seekable(path: Path) -> bool:
    """Gives `path` its index and duration, and takes off what is torn at its end. False: it has them already.
    Raises WebmError, or OSError; it then plays as before."""
    with path.open("r+b") as file:
        header = file.read(_HEADER_BYTES)
        length = os.fstat(file.fileno()).st_size
        segment, parts = _header(header)
        room, info, tracks = (_first(parts, kind) for kind in (_VOID, _INFO, _TRACKS))
        inside = list(_elements(header, info.data, info.end))
        if any(each.kind == _DURATION for each in inside):
            return False
        last = inside[-1] if inside else info
        if (last.kind, last.end - last.start) != (_VOID, _DURATION_BYTES):
            raise WebmError("its header has no room for a duration")
        if (
            room.end - room.start < _SEEK_HEAD_BYTES
            or not segment.data <= room.start < room.end <= info.start
        ):
            raise WebmError("its header has no room for an index")
        found = _scan(file, parts[-1].end, length, segment.data, _leading(header, tracks))
        if not found.last_ms:
            raise WebmError("it holds no media")
        cues = _cues(found.cues)
        file.truncate(found.end)
        file.seek(found.end)
        file.write(cues)
        file.flush()
        os.fsync(file.fileno())
        size = found.end + len(cues) - segment.data
        head = bytearray(header[: info.end])
        head[segment.data - 8 : segment.data] = (size | 1 << 56).to_bytes(8, "big")
        places = [(_INFO, info.start), (_TRACKS, tracks.start), (_CUES, found.end)]
        seek = _seek_head([(kind, at - segment.data) for kind, at in places])
        head[room.start : room.end] = seek + _void(room.end - room.start - len(seek))
        head[last.start : last.end] = b"\x44\x89\x88" + struct.pack(">d", found.duration_ms)
        file.seek(0)
        file.write(head)
        file.flush()
        os.fsync(file.fileno())
    return True


def _header(data: bytes) -> tuple[_Element, list[_Element]]:
    """The segment and what stands in it before the first cluster."""
    elements = list(_elements(data, 0, len(data)))
    if len(elements) < 2 or elements[1].kind != _SEGMENT:
        raise WebmError("it has no segment")
    segment = elements[1]
    if segment.data - segment.start != _SEGMENT_HEAD_BYTES:
        raise WebmError("its segment has no room for a size")
    parts = []
    for each in _elements(data, segment.data, len(data)):
        if each.kind in (_CLUSTER, _CUES):
            break
        parts.append(each)
    if not parts or parts[-1].end > len(data):
        raise WebmError("its header is cut off")
    return segment, parts


def _first(parts: list[_Element], kind: int) -> _Element:
    for each in parts:
        if each.kind == kind:
            return each
    raise WebmError(f"its header lacks {kind:x}")


def _leading(header: bytes, tracks: _Element) -> int:
    """The number of the video track; 0: there is none."""
    for entry in _elements(header, tracks.data, tracks.end):
        if entry.kind == _TRACK_ENTRY:
            values = {
                each.kind: int.from_bytes(header[each.data : each.end], "big")
                for each in _elements(header, entry.data, entry.end)
                if each.kind in (_TRACK_NUMBER, _TRACK_TYPE)
            }
            if values.get(_TRACK_TYPE) == _VIDEO:
                return values.get(_TRACK_NUMBER, 0)
    return 0


def _scan(file: BinaryIO, start: int, length: int, segment: int, leading: int) -> _Found:
    """All whole clusters from `start` on."""
    found = _Found(end=start)
    while found.end + 12 <= length:
        file.seek(found.end)
        head = file.read(12)
        each = next(_elements(head, 0, 12), None)
        size = each.end - each.start if each is not None and each.kind == _CLUSTER else 0
        if each is None or not 0 < size <= min(_MAX_CLUSTER_BYTES, length - found.end):
            break
        _add(found, file.read(size - 12), found.end - segment, leading)
        found.end += size
    return found


def _add(found: _Found, cluster: bytes, offset: int, leading: int) -> None:
    start_ms = 0
    is_cued = False
    for each in _elements(cluster, 0, len(cluster)):
        if each.kind == _TIMESTAMP:
            start_ms = min(_LATEST_MS, int.from_bytes(cluster[each.data : each.end], "big"))
        elif each.kind == _SIMPLE_BLOCK and each.data + 4 <= min(each.end, len(cluster)):
            track = cluster[each.data] & 0x7F
            at_ms = start_ms + int.from_bytes(cluster[each.data + 1 : each.data + 3], "big", signed=True)
            at_ms = max(0, at_ms)
            is_key = bool(cluster[each.data + 3] & 0x80)
            before_ms = found.last_ms.get(track)
            if before_ms is not None:
                found.steps_ms[track] = at_ms - before_ms
            found.last_ms[track] = at_ms
            far = not found.cues or at_ms - found.cues[-1][0] >= _CUE_EVERY_MS
            if is_key and not is_cued and (track == leading or (not leading and far)):
                found.cues.append((at_ms, track, offset))
                is_cued = True


def _elements(data: bytes, start: int, end: int) -> Iterator[_Element]:
    """Side by side; one of unknown size reaches to the end, and nothing is given of what is no element."""
    at, end = start, min(end, len(data))
    while at < end and data[at]:
        kind_bytes = 9 - data[at].bit_length()
        size_at = at + kind_bytes
        if size_at >= end or not data[size_at]:
            return
        size_bytes = 9 - data[size_at].bit_length()
        inside = size_at + size_bytes
        if inside > len(data):
            return
        unknown = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(data[size_at:inside], "big") & unknown
        after = end if size == unknown else inside + size
        yield _Element(int.from_bytes(data[at:size_at], "big"), at, inside, after)
        at = after


def _cues(cues: list[tuple[int, int, int]]) -> bytes:
    points = [
        _element(
            b"\xbb",
            _number(b"\xb3", at_ms) + _element(b"\xb7", _number(b"\xf7", track) + _number(b"\xf1", offset)),
        )
        for at_ms, track, offset in cues
    ]
    return _element(b"\x1c\x53\xbb\x6b", b"".join(points))


def _seek_head(places: list[tuple[int, int]]) -> bytes:
    """`places`: (element, offset within the segment)."""
    seeks = [
        _element(b"\x4d\xbb", _element(b"\x53\xab", kind.to_bytes(4, "big")) + _number(b"\x53\xac", at))
        for kind, at in places
    ]
    return _element(b"\x11\x4d\x9b\x74", b"".join(seeks))


def _void(size: int) -> bytes:
    return b"\xec" + (size - 9 | 1 << 56).to_bytes(8, "big") + bytes(size - 9)


def _number(name: bytes, value: int) -> bytes:
    return name + b"\x88" + value.to_bytes(8, "big")


def _element(name: bytes, data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return name + bytes((size | 0x80,)) + data
    return name + (size | 1 << 56).to_bytes(8, "big") + data
