"""Writes the beginning of a Matroska file (RFC 9559), with room for tracks that are not known yet. Pure.

Tracks and their tags precede the media, in two elements of fixed size. The unused rest of each is one Void. A
new track is first written inside that Void, which readers skip, followed by a smaller Void; then nine bytes
turn the Void's head into that of the new element. They lie within one page, so that a kill leaves the file
with the track or without it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.units import S
from openegress.media.ebml import (
    UNKNOWN_SIZE,
    WIDE_HEAD_BYTES,
    element,
    number,
    text,
    void,
    wide_size,
)

TRACKS_BYTES = 96 * 1024 - 12
"""Room for 300 to 700 tracks, depending on the length of their names; FFmpeg reads at most 1,000. The room
for tags, which follows, begins at a slot too."""
TAGS_BYTES = 144 * 1024
SLOT_BYTES = 64
"""Alignment of entries, so that no entry's head crosses a page boundary."""
SEEK_BYTES = 160
"""Room for the seek head, which is written at the end of a recording."""
DURATION_BYTES = 11
EPOCH_2001_NS = 978_307_200 * S
"""The epoch of DateUTC (RFC 8794 section 7.6)."""

_EBML, _SEGMENT, _INFO = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66"
_TRACKS, _TAGS = b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67"
_CONTAINER_HEAD_BYTES = 12

Rewrite = Callable[[int, bytes], object]
"""Overwrites bytes at an offset of the file."""


def head(started_at_ns: int) -> tuple[bytes, "HeadRoom", "HeadRoom"]:
    """Builds everything before the first cluster, and returns it with the rooms for tracks and tags in it.
    `started_at_ns`: unix ns of media time zero."""
    ebml = element(
        _EBML,
        element(b"\x42\x86", b"\x01")  # EBMLVersion
        + element(b"\x42\xf7", b"\x01")  # EBMLReadVersion
        + element(b"\x42\xf2", b"\x04")  # EBMLMaxIDLength
        + element(b"\x42\xf3", b"\x08")  # EBMLMaxSizeLength
        + text(b"\x42\x82", "matroska")  # DocType
        + element(b"\x42\x87", b"\x04")  # DocTypeVersion
        + element(b"\x42\x85", b"\x02"),  # DocTypeReadVersion
    )
    date = (started_at_ns - EPOCH_2001_NS).to_bytes(8, "big", signed=True)
    info = element(
        _INFO,
        number(b"\x2a\xd7\xb1", 1_000_000)  # TimestampScale: milliseconds
        + text(b"\x4d\x80", "openegress")  # MuxingApp
        + text(b"\x57\x41", "openegress")  # WritingApp
        + element(b"\x44\x61", date)  # DateUTC
        + void(DURATION_BYTES),
    )
    segment = _SEGMENT + UNKNOWN_SIZE
    before = len(ebml) + len(segment) + SEEK_BYTES + len(info) + _CONTAINER_HEAD_BYTES
    seek = void(SEEK_BYTES + -before % SLOT_BYTES)
    start = ebml + segment + seek + info + _TRACKS + wide_size(TRACKS_BYTES)
    tracks = HeadRoom(b"\xae", len(start), TRACKS_BYTES)
    middle = start + void(TRACKS_BYTES) + _TAGS + wide_size(TAGS_BYTES)
    tags = HeadRoom(b"\x73\x73", len(middle), TAGS_BYTES)
    return middle + void(TAGS_BYTES), tracks, tags


@dataclass(slots=True)
class HeadRoom:
    """A Void that becomes elements of one kind, one after another."""

    name: bytes
    """Element ID of one or two bytes."""
    at: int
    """Offset of the rest of the Void."""
    left_bytes: int

    def takes(self, content: bytes) -> bool:
        return _padded_bytes(content) + WIDE_HEAD_BYTES <= self.left_bytes

    def reveal(self, content: bytes, rewrite: Rewrite) -> None:
        """Turns the beginning of the Void into an element. Raises ValueError if takes() is False."""
        if not self.takes(content):
            raise ValueError(f"no room for {len(content)} bytes")
        size = _padded_bytes(content)
        filled = content + _filling(size - WIDE_HEAD_BYTES - len(content))
        self.left_bytes -= size
        behind = b"\xec" + wide_size(self.left_bytes - WIDE_HEAD_BYTES)
        rewrite(self.at + WIDE_HEAD_BYTES, filled + behind)
        width = WIDE_HEAD_BYTES - len(self.name)
        rewrite(self.at, self.name + (len(filled) | 1 << 7 * width).to_bytes(width, "big"))
        self.at += size


def _padded_bytes(content: bytes) -> int:
    """The size of an element with its head and padding; a Void has at least two bytes."""
    bare = WIDE_HEAD_BYTES + len(content)
    padding = -bare % SLOT_BYTES
    return bare + padding + (SLOT_BYTES if padding == 1 else 0)


def _filling(size: int) -> bytes:
    return void(size) if size else b""
