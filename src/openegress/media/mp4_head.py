"""What an MP4 of many tracks begins with (ISO/IEC 14496-12), with room for tracks that nobody knows.

The moov has its size from the beginning. What of it is not used are free boxes, which readers skip: one among
the tracks, one among their defaults for fragments (mvex). Another box is written inside a free one, with a
smaller free box behind it; then eight bytes turn the head of the free box into that of the new one. They lie
within one page, so that a kill leaves the file with the track or without it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from openegress.media.fragments import ROOM
from openegress.media.movie import box, ftyp, mvhd

MOST_TRACKS = 500
SLOT_BYTES = 64
"""A track begins at a multiple of it: the head of none crosses the border of a page."""
TRAKS_BYTES = 3072 * SLOT_BYTES
"""Room for 250 tracks or more, by what their codecs and names take."""
TREX_BYTES = 32
_TREXES_BYTES = 512 * TREX_BYTES
_FREE_HEAD_BYTES = 8
_ANY_NUMBER = 0xFFFFFFFF - 1
"""What the next track may be: all ones say that one is to be looked for (8.2.2.3)."""

Rewrite = Callable[[int, bytes], object]
"""Puts bytes at an offset of the file, over those that are there."""


def head() -> tuple[bytes, "BoxRoom", "BoxRoom"]:
    """What stands before the first fragment, and the rooms for tracks and for their defaults in it."""
    before = ftyp() + ROOM
    movie = mvhd(0, _ANY_NUMBER)
    at = len(before) + 8 + len(movie) + 8 + 8  # the heads of moov, mvex and the box that fills up
    filling = box(b"free", bytes(-at % SLOT_BYTES))
    trexes_at = at + len(filling) - 8
    mvex = struct.pack(">I4s", 8 + _TREXES_BYTES, b"mvex") + _free(_TREXES_BYTES)
    content = movie + filling + mvex + _free(TRAKS_BYTES)
    start = before + box(b"moov", content)
    trexes = BoxRoom(trexes_at, _TREXES_BYTES)
    return start, BoxRoom(trexes_at + _TREXES_BYTES, TRAKS_BYTES), trexes


@dataclass(slots=True)
class BoxRoom:
    """A free box that becomes others, one after the other."""

    at: int
    """Where what is left of it begins."""
    left_bytes: int

    def takes(self, size: int) -> bool:
        return size + _FREE_HEAD_BYTES <= self.left_bytes

    def reveal(self, made: bytes, rewrite: Rewrite) -> None:
        """Turns its beginning into the box `made`. ValueError: takes() says no."""
        size = len(made)
        if not self.takes(size):
            raise ValueError(f"no room for {size} bytes")
        self.left_bytes -= size
        rewrite(self.at + 8, made[8:] + struct.pack(">I4s", self.left_bytes, b"free"))
        rewrite(self.at, made[:8])
        self.at += size


def in_slots(made: bytes) -> bytes:
    """A box with a free box at its end that makes its size a multiple of SLOT_BYTES."""
    padding = -len(made) % SLOT_BYTES
    if 0 < padding < _FREE_HEAD_BYTES:
        padding += SLOT_BYTES
    filled = made[8:] + (_free(padding) if padding else b"")
    return struct.pack(">I", 8 + len(filled)) + made[4:8] + filled


def _free(size: int) -> bytes:
    return struct.pack(">I4s", size, b"free") + bytes(size - _FREE_HEAD_BYTES)
