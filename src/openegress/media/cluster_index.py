"""Indexes a file of clusters (media.clusters), and adds its index and duration (RFC 9559).

This happens in place: the clusters stay where they are, the index follows them, and the header has room for
the rest.
"""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from openegress.media.ebml import VOID, Element, element, elements, number, number_at, void

_SEGMENT, _INFO, _TRACKS, _TAGS = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1254C367
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _CUES = 0x1F43B675, 0xE7, 0xA3, 0x1C53BB6B
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE = 0xAE, 0xD7, 0x83
_CHAPTERS = 0x1043A770
_VIDEO = 1

HEADER_BYTES = 512 * 1024
"""Limit for a header, whether FFmpeg's or one with room for later tracks (media.matroska_head)."""
MAX_CLUSTER_BYTES = 256 * 1024 * 1024
"""Limit for a cluster. It holds half a second of media; a larger one is damaged."""
_CUE_EVERY_MS = 5_000
"""Time between index entries of sound in a file without pictures; otherwise each cluster would get one."""
_LONGEST_STEP_MS = 1_000
"""The longest assumed duration of a track's last block: the step before it may have been a pause."""
_SEGMENT_HEAD_BYTES = 12
"""Size of the segment's head, with an eight-byte size."""
_SEEK_HEAD_BYTES = 112
"""Size of the seek head: five entries and padding."""
_LATEST_MS = 1 << 50
"""The latest time of a cluster."""
_DURATION = 0x4489
_DURATION_BYTES = 11
"""Size of the Duration element, for which FFmpeg leaves room in Info."""


class WebmError(ValueError):
    """The file is not a valid WebM."""


@dataclass(slots=True)
class _Found:
    cues: list[tuple[int, int, int]] = field(default_factory=list)
    """(ms, track, offset of the cluster within the segment)."""
    last_ms: dict[int, int] = field(default_factory=dict)
    steps_ms: dict[int, int] = field(default_factory=dict)
    """Time between the last two blocks, by track."""
    cued_ms: dict[int, int] = field(default_factory=dict)
    """Time of the last entry of each picture track."""
    end: int = 0
    """Where the last whole cluster ends."""

    @property
    def duration_ms(self) -> int:
        return max(
            (at + min(_LONGEST_STEP_MS, self.steps_ms.get(track, 0)) for track, at in self.last_ms.items()),
            default=0,
        )


def make_seekable(path: Path, chapters: bytes = b"") -> bool:
    """Gives `path` its index, its duration and `chapters`, an element, and cuts off a torn end. Returns False
    if it has them already. Raises WebmError or OSError; the file then plays as before."""
    with path.open("r+b") as file:
        header = file.read(HEADER_BYTES)
        length = os.fstat(file.fileno()).st_size
        segment, parts = header_parts(header)
        room, info, tracks = (_first(parts, kind) for kind in (VOID, _INFO, _TRACKS))
        inside = list(elements(header, info.data, info.end))
        if any(each.kind == _DURATION for each in inside):
            return False
        last = inside[-1] if inside else info
        if (last.kind, last.end - last.start) != (VOID, _DURATION_BYTES):
            raise WebmError("its header has no room for a duration")
        if (
            room.end - room.start < _SEEK_HEAD_BYTES
            or not segment.data <= room.start < room.end <= info.start
        ):
            raise WebmError("its header has no room for an index")
        found = _scan(file, parts[-1].end, length, segment.data, _pictures(header, tracks))
        if not found.last_ms:
            raise WebmError("it holds no media")
        cues = _cues(found.cues)
        file.truncate(found.end)
        file.seek(found.end)
        file.write(cues + chapters)
        file.flush()
        os.fsync(file.fileno())
        size = found.end + len(cues) + len(chapters) - segment.data
        head = bytearray(header[: info.end])
        head[segment.data - 8 : segment.data] = (size | 1 << 56).to_bytes(8, "big")
        places = [(_INFO, info.start), (_TRACKS, tracks.start), (_CUES, found.end)]
        places += [(_TAGS, each.start) for each in parts if each.kind == _TAGS]
        if chapters:
            places.append((_CHAPTERS, found.end + len(cues)))
        seek = _seek_head([(kind, at - segment.data) for kind, at in places])
        head[room.start : room.end] = seek + void(room.end - room.start - len(seek))
        head[last.start : last.end] = b"\x44\x89\x88" + struct.pack(">d", found.duration_ms)
        file.seek(0)
        file.write(head)
        file.flush()
        os.fsync(file.fileno())
    return True


def header_parts(data: bytes) -> tuple[Element, list[Element]]:
    """Returns the segment, and its elements before the first cluster."""
    outer = list(elements(data, 0, len(data)))
    if len(outer) < 2 or outer[1].kind != _SEGMENT:
        raise WebmError("it has no segment")
    segment = outer[1]
    if segment.data - segment.start != _SEGMENT_HEAD_BYTES:
        raise WebmError("its segment has no room for a size")
    parts = []
    for each in elements(data, segment.data, len(data)):
        if each.kind in (_CLUSTER, _CUES):
            break
        parts.append(each)
    if not parts or parts[-1].end > len(data):
        raise WebmError("its header is cut off")
    return segment, parts


def _first(parts: list[Element], kind: int) -> Element:
    for each in parts:
        if each.kind == kind:
            return each
    raise WebmError(f"its header lacks {kind:x}")


def _pictures(header: bytes, tracks: Element) -> frozenset[int]:
    """The numbers of all tracks that are not sound."""
    found = set()
    for entry in elements(header, tracks.data, tracks.end):
        if entry.kind == _TRACK_ENTRY:
            values = {
                each.kind: int.from_bytes(header[each.data : each.end], "big")
                for each in elements(header, entry.data, entry.end)
                if each.kind in (_TRACK_NUMBER, _TRACK_TYPE)
            }
            if values.get(_TRACK_TYPE) == _VIDEO:
                found.add(values.get(_TRACK_NUMBER, 0))
    return frozenset(found)


def _scan(file: BinaryIO, start: int, length: int, segment: int, pictures: frozenset[int]) -> _Found:
    """Finds all whole clusters from `start` on."""
    found = _Found(end=start)
    while found.end + 12 <= length:
        file.seek(found.end)
        head = file.read(12)
        each = next(elements(head, 0, 12), None)
        size = each.end - each.start if each is not None and each.kind == _CLUSTER else 0
        if each is None or not 0 < size <= min(MAX_CLUSTER_BYTES, length - found.end):
            break
        _add(found, file.read(size - 12), found.end - segment, pictures)
        found.end += size
    return found


def _add(found: _Found, cluster: bytes, offset: int, pictures: frozenset[int]) -> None:
    start_ms = 0
    for each in elements(cluster, 0, len(cluster)):
        if each.kind == _TIMESTAMP:
            start_ms = min(_LATEST_MS, int.from_bytes(cluster[each.data : each.end], "big"))
        elif each.kind == _SIMPLE_BLOCK:
            track, at = number_at(cluster, each.data)
            if at == each.data or at + 3 > min(each.end, len(cluster)):
                continue
            at_ms = max(0, start_ms + int.from_bytes(cluster[at : at + 2], "big", signed=True))
            before_ms = found.last_ms.get(track)
            if before_ms is not None:
                found.steps_ms[track] = at_ms - before_ms
            found.last_ms[track] = at_ms
            if cluster[at + 2] & 0x80 and _is_entry(found, at_ms, track, track in pictures):
                found.cues.append((at_ms, track, offset))


def _is_entry(found: _Found, at_ms: int, track: int, is_picture: bool) -> bool:
    """Whether a block gets an index entry: at most one a second for each picture track; sound gets one only
    where no picture has one."""
    if is_picture:
        last_ms = found.cued_ms.get(track)
        if last_ms is not None and at_ms - last_ms < _LONGEST_STEP_MS:
            return False
        found.cued_ms[track] = at_ms
        return True
    return not found.cues or at_ms - found.cues[-1][0] >= _CUE_EVERY_MS


def _cues(cues: list[tuple[int, int, int]]) -> bytes:
    points = [
        element(
            b"\xbb",
            number(b"\xb3", at_ms) + element(b"\xb7", number(b"\xf7", track) + number(b"\xf1", offset)),
        )
        for at_ms, track, offset in cues
    ]
    return element(b"\x1c\x53\xbb\x6b", b"".join(points))


def _seek_head(places: list[tuple[int, int]]) -> bytes:
    """Builds the seek head. `places`: (element, offset within the segment)."""
    seeks = [
        element(b"\x4d\xbb", element(b"\x53\xab", kind.to_bytes(4, "big")) + number(b"\x53\xac", at))
        for kind, at in places
    ]
    return element(b"\x11\x4d\x9b\x74", b"".join(seeks))
