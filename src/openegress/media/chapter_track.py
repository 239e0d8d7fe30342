"""Chapters of an MP4 as a track of text, which QuickTime and Apple's players read (QuickTime File Format,
"Chapter Lists" and "Text Media"): each sample is a title, from its moment to the next. Pure.

Other tracks refer to it as their chapters. It is disabled, so that no player shows it as subtitles.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise

from openegress.core.marker import Marker, spaced
from openegress.core.units import MS
from openegress.media.movie import MOVIE_TIMESCALE, Edit, TrackHead, box, full_box, trak

TIMESCALE = 1000
"""Ticks a second, so that two chapters may lie 24 days apart."""
_UTF8 = b"\x00\x00\x00\x0cencd\x00\x00\x01\x00"
"""Follows each title and states its encoding."""
_DESCRIPTION = box(
    b"text",
    bytes(6) + b"\x00\x01",  # data reference
    bytes.fromhex("00000001 0000 00000000 0000000000000000 00000000 0001 0000 00000000"),
    box(b"ftab", bytes.fromhex("0001 0001 00")),  # a font without a name
)
"""A text sample description that shows nothing: FFmpeg writes the same."""


class ChapterTrack:
    """A chapter track made of one or more markers."""

    def __init__(self, markers: Sequence[Marker]) -> None:
        chapters = spaced(tuple(markers), MS)
        self._samples = [_sample(each.name) for each in chapters]
        self._starts_ms = [each.at_ns // MS for each in chapters]

    @property
    def media(self) -> bytes:
        """The titles, in a box of their own."""
        return box(b"mdat", *self._samples)

    def duration(self, movie: int) -> int:
        """The duration including the last chapter; both in MOVIE_TIMESCALE."""
        return max(movie, (self._starts_ms[-1] + 1) * MOVIE_TIMESCALE // TIMESCALE)

    def trak(self, number: int, at: int, movie: int) -> bytes:
        """Returns the track's box. `at`: offset of `media` in the file; `movie`: the movie's duration in
        MOVIE_TIMESCALE."""
        end_ms = self.duration(movie) * TIMESCALE // MOVIE_TIMESCALE
        deltas = [after - before for before, after in pairwise([*self._starts_ms, end_ms])]
        first = self._starts_ms[0] * MOVIE_TIMESCALE // TIMESCALE
        edits = [Edit(self.duration(movie) - first, 0)]
        if first:
            edits.insert(0, Edit(first, None))
        head = TrackHead(number, None, TIMESCALE, (_DESCRIPTION,), edits, sum(deltas), self.duration(movie))
        count = len(deltas)
        sizes = [len(each) for each in self._samples]
        tables = (
            full_box(
                b"stts", 0, 0, struct.pack(f">I{2 * count}I", count, *(v for d in deltas for v in (1, d)))
            ),
            full_box(b"stsc", 0, 0, struct.pack(">4I", 1, 1, count, 1)),
            full_box(b"stsz", 0, 0, struct.pack(f">II{count}I", 0, count, *sizes)),
            full_box(b"co64", 0, 0, struct.pack(">IQ", 1, at + 8)),
        )
        return trak(head, b"".join(tables))


def _sample(title: str) -> bytes:
    text = title.encode()[:0xFFFF].decode(errors="ignore").encode()
    return struct.pack(">H", len(text)) + text + _UTF8
