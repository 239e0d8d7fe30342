"""Writes the beginning of an MP4 of many tracks (ISO/IEC 14496-12), with room for tracks that are not known
yet.

The moov has a fixed size. Its unused parts are free boxes, which readers skip: one among the tracks, one
among their defaults for fragments (mvex). A new box is first written inside a free one, followed by a smaller
free box; then eight bytes turn the head of the free box into that of the new one. They lie within one page,
so that a kill leaves the file with the track or without it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from openegress.media.fragments import ROOM
from openegress.media.movie import box, ftyp, mvhd

MAX_TRACKS = 500
SLOT_BYTES = 64
"""Alignment of tracks, so that no track's head crosses a page boundary."""
TRAKS_BYTES = 3072 * SLOT_BYTES
"""Room for 250 tracks or more, depending on their codecs and names."""
TREX_BYTES = 32
_TREXES_BYTES = 512 * TREX_BYTES
_FREE_HEAD_BYTES = 8
_ANY_NUMBER = 0xFFFFFFFF - 1
"""Number of the next track: all ones tell writers to search for one (8.2.2.3)."""

Rewrite = Callable[[int, bytes], object]
"""Overwrites bytes at an offset of the file."""


def head() -> tuple[bytes, "BoxRoom", "BoxRoom"]:
    """Builds everything before the first fragment, and returns it with the rooms for tracks and their
    defaults in it."""
    before = ftyp() + ROOM
    movie = mvhd(0, _ANY_NUMBER)
    at = len(before) + 8 + len(movie) + 8 + 8  # the heads of moov, mvex and the padding box
    filling = box(b"free", bytes(-at % SLOT_BYTES))
    trexes_at = at + len(filling) - 8
    mvex = struct.pack(">I4s", 8 + _TREXES_BYTES, b"mvex") + _free(_TREXES_BYTES)
    content = movie + filling + mvex + _free(TRAKS_BYTES)
    start = before + box(b"moov", content)
    trexes = BoxRoom(trexes_at, _TREXES_BYTES)
    return start, BoxRoom(trexes_at + _TREXES_BYTES, TRAKS_BYTES), trexes


@dataclass(slots=True)
class BoxRoom:
    """A free box that becomes other boxes, one after another."""

    at: int
    """Offset of the rest of the free box."""
    left_bytes: int

    def takes(self, size: int) -> bool:
        return size + _FREE_HEAD_BYTES <= self.left_bytes

    def reveal(self, made: bytes, rewrite: Rewrite) -> None:
        """Turns the beginning of the free box into the box `made`. Raises ValueError if takes() is False."""
        size = len(made)
        if not self.takes(size):
            raise ValueError(f"no room for {size} bytes")
        self.left_bytes -= size
        rewrite(self.at + 8, made[8:] + struct.pack(">I4s", self.left_bytes, b"free"))
        rewrite(self.at, made[:8])
        self.at += size


def in_slots(made: bytes) -> bytes:
    """Pads a box with a free box to a multiple of SLOT_BYTES."""
    padding = -len(made) % SLOT_BYTES
    if 0 < padding < _FREE_HEAD_BYTES:
        padding += SLOT_BYTES
    filled = made[8:] + (_free(padding) if padding else b"")
    return struct.pack(">I", 8 + len(filled)) + made[4:8] + filled


def _free(size: int) -> bytes:
    return struct.pack(">I4s", size, b"free") + bytes(size - _FREE_HEAD_BYTES)
