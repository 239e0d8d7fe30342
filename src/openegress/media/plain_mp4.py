"""Turns a fragmented file into a plain MP4, with tables (ISO/IEC 14496-12 8.6, 8.7) instead of fragments."""

import errno
import os
import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from openegress.core.codecs import MediaKind
from openegress.core.marker import Marker
from openegress.media.chapter_track import ChapterTrack
from openegress.media.chapters import chapter_box
from openegress.media.fragment_index import LONGEST_DELTA, Chunk, FragmentIndex, IndexedTrack, read
from openegress.media.fragments import ROOM
from openegress.media.movie import MOVIE_TIMESCALE, Edit, TrackHead, box, ftyp, full_box, mvhd, trak
from openegress.media.mp4 import Mp4Error

_COARSE_TIMESCALE = 1000
"""Time scale of a track with a gap too long for its own one (6.6 h at 90 kHz): it allows 24 days."""
_COPY_BYTES = 8 * 1024 * 1024
_OPUS_PREROLL_MS = 80
"""Preroll of Opus in ms (Opus in ISOBMFF 4.3.6.2)."""
_AAC_PREROLL_SAMPLES = 1
"""Preroll of AAC in samples (ISO/IEC 14496-12 10.1.1.3)."""
_AAC = re.compile(rb"mp4a.*esds.*\x04\x80\x80\x80.\x40", re.DOTALL)
"""Matches a sample entry whose decoder configuration (ISO/IEC 14496-1 7.2.6.6, lengths in four bytes like
FFmpeg's) says AAC rather than MP3."""

assert len(ROOM) == 16, "an mdat head of 64 bits fits"


def plain_copy(source: Path, target: Path, markers: Sequence[Marker] = ()) -> None:
    """Writes the media of `source` as a plain MP4 with its index in front, and chapters. Keeps the space that
    `target` has. Raises Mp4Error or OSError."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with os.fdopen(fd, "wb") as out, source.open("rb") as file:
        index = read(file)
        head = ftyp()
        chapters = _Chapters(markers)
        mdat = chapters.media + _mdat_head(index.media_bytes)
        # The media's offset depends on the index's length, which may grow once if offsets get longer.
        moov = _moov(index, lambda offset: offset, chapters)
        for _ in range(3):
            chapters.at = len(head) + len(moov)
            moved = _Moved(index.media, chapters.at + len(mdat))
            before, moov = len(moov), _moov(index, moved.offset_of, chapters)
            if len(moov) == before:
                break
        out.write(head + moov + mdat)
        out.flush()
        for offset, size in index.media:
            _copy(file, out, offset, size)
        out.flush()
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
        os.fsync(fd)


def make_plain(path: Path, markers: Sequence[Marker] = ()) -> None:
    """Turns `path` into a plain MP4 in place, with its index after the media and the fragments' headers among
    the media: for a disk without space for a copy. Raises Mp4Error or OSError, and then leaves the file
    unchanged."""
    with path.open("r+b") as file:
        index = read(file)
        chapters = _Chapters(markers)
        for _ in range(2):
            moov = _moov(index, lambda offset: offset, chapters)
            chapters.at = index.end + len(moov)
        file.truncate(index.end)
        try:
            file.seek(index.end)
            file.write(moov + chapters.media)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(index.end)
            raise
        # This step makes it plain: one write of 16 bytes, which a disk does completely or not at all.
        start = len(ftyp())
        file.seek(start)
        file.write(struct.pack(">I4sQ", 1, b"mdat", index.end - start))
        file.flush()
        os.fsync(file.fileno())


class _Moved:
    """Maps media offsets to a copy, piece after piece, at `start`."""

    def __init__(self, media: Sequence[tuple[int, int]], start: int) -> None:
        self._from: list[int] = []
        self._by: list[int] = []
        for offset, size in media:
            self._from.append(offset)
            self._by.append(start - offset)
            start += size

    def offset_of(self, offset: int) -> int:
        return offset + self._by[bisect_right(self._from, offset) - 1]


class _Chapters:
    """Chapters in two forms, because some players read one and some the other one."""

    def __init__(self, markers: Sequence[Marker]) -> None:
        self.box = chapter_box(markers)
        self.track = ChapterTrack(markers) if markers else None
        self.media = self.track.media if self.track is not None else b""
        self.at = 0
        """Offset of `media` in the new file."""


def _moov(index: FragmentIndex, place: Callable[[int], int], chapters: _Chapters) -> bytes:
    """Builds the moov. `place`: maps a byte of the media to its offset in the new file. Raises Mp4Error if
    the fragments' values do not fit into an index."""
    try:
        return _written(index, place, chapters)
    except (struct.error, OverflowError, IndexError) as error:
        raise Mp4Error(f"its fragments do not fit into an index: {error}") from None


def _written(index: FragmentIndex, place: Callable[[int], int], chapters: _Chapters) -> bytes:
    traks, longest = [], 0
    last = len(index.tracks) + (chapters.track is not None)
    for number, track in enumerate(index.tracks, 1):
        scaled = _Scaled(track)
        edits = scaled.edits()
        duration = sum(edit.duration for edit in edits)
        longest = max(longest, duration)
        head = TrackHead(
            number,
            track.kind,
            scaled.timescale,
            track.entries,
            edits,
            scaled.media_duration,
            duration,
            last if chapters.track is not None else 0,
            index.names.get(track.number),
        )
        traks.append(trak(head, _tables(track, scaled, place)))
    if chapters.track is not None:
        traks.append(chapters.track.trak(last, chapters.at, longest))
        longest = chapters.track.duration(longest)
    return box(b"moov", mvhd(longest, last), *traks, chapters.box)


class _Scaled:
    """A track's times in a time scale whose sums every player can handle."""

    def __init__(self, track: IndexedTrack) -> None:
        self._track = track
        self.timescale = track.timescale
        if max(track.deltas) > LONGEST_DELTA:
            self.timescale = _COARSE_TIMESCALE
        self.deltas: Sequence[int] = track.deltas
        if self.timescale != track.timescale:
            self.deltas = self._coarse_deltas()
        self.media_duration = sum(self.deltas)

    def to(self, ticks: int) -> int:
        return self._rescaled(ticks, self.timescale)

    def edits(self) -> list[Edit]:
        """Returns edits that show nothing until the first picture or sound, then all of it. Samples that an
        audio encoder made before media time zero are decoded but not played."""
        track = self._track
        starts = track.first_pts - track.zero
        shown = max(0, track.end_pts - max(track.first_pts, track.zero))
        begin = self.to(max(track.first_pts, track.zero) - track.first_dts)
        edits = [Edit(self._rescaled(shown, MOVIE_TIMESCALE), begin)]
        if starts > 0:
            edits.insert(0, Edit(self._rescaled(starts, MOVIE_TIMESCALE), None))
        return edits

    def _rescaled(self, ticks: int, timescale: int) -> int:
        return (2 * ticks * timescale + self._track.timescale) // (2 * self._track.timescale)

    def _coarse_deltas(self) -> "array[int]":
        deltas = array("q")
        at = before = 0
        for delta in self._track.deltas:
            at += delta
            here = self.to(at)
            deltas.append(min(here - before, LONGEST_DELTA))
            before = here
        return deltas


def _tables(track: IndexedTrack, scaled: _Scaled, place: Callable[[int], int]) -> bytes:
    parts = [_table(b"stts", 0, 2, _run_lengths(scaled.deltas))]
    if any(track.compositions):
        parts.append(_table(b"ctts", 0, 2, _run_lengths([scaled.to(each) for each in track.compositions])))
    if track.kind is MediaKind.VIDEO and len(track.sync) < len(track.sizes):
        parts.append(_table(b"stss", 0, 1, track.sync))
    parts.append(_table(b"stsc", 0, 3, _chunk_lengths(track.runs)))
    parts.append(
        full_box(b"stsz", 0, 0, bytes(4), struct.pack(">I", len(track.sizes)), _packed("I", track.sizes))
    )
    offsets = [place(run.offset) for run in track.runs]
    wide = max(offsets) > 0xFFFFFFFF
    parts.append(
        full_box(
            b"co64" if wide else b"stco", 0, 0,
            struct.pack(">I", len(offsets)), _packed("Q" if wide else "I", offsets),
        )
    )  # fmt: skip
    parts.append(_preroll(track))
    return b"".join(parts)


def _preroll(track: IndexedTrack) -> bytes:
    """Builds the tables that say how far back a player goes to begin in the middle (10.1.1.2). All samples
    share one entry."""
    entry = track.entries[0]
    if entry[4:8] == b"Opus":
        samples = -(-track.timescale * _OPUS_PREROLL_MS // 1000 // max(track.deltas[0], 1))
    else:
        samples = _AAC_PREROLL_SAMPLES if _AAC.search(entry) else 0
    if not samples:
        return b""
    description = full_box(b"sgpd", 1, 0, b"roll", struct.pack(">IIh", 2, 1, -samples))
    group = full_box(b"sbgp", 0, 0, b"roll", struct.pack(">III", 1, len(track.sizes), 1))
    return description + group


def _run_lengths(values: Sequence[int]) -> "array[int]":
    """Returns (count, value) of each run."""
    runs = array("I")
    for value, group in groupby(values):
        runs.extend((sum(1 for _ in group), value))
    return runs


def _chunk_lengths(runs: Sequence[Chunk]) -> "array[int]":
    """Returns (first chunk, samples in each, sample entry), one for each change."""
    rows = array("I")
    before = None
    for number, run in enumerate(runs, 1):
        if (run.count, run.entry) != before:
            before = (run.count, run.entry)
            rows.extend((number, run.count, run.entry + 1))
    return rows


def _table(kind: bytes, version: int, columns: int, values: "array[int]") -> bytes:
    return full_box(kind, version, 0, struct.pack(">I", len(values) // columns), _packed("I", values))


def _packed(form: str, values: Sequence[int]) -> bytes:
    return struct.pack(f">{len(values)}{form}", *values)


def _mdat_head(media_bytes: int) -> bytes:
    return struct.pack(">I4sQ", 1, b"mdat", media_bytes + 16)


def _copy(file: BinaryIO, out: BinaryIO, offset: int, size: int) -> None:
    """Copies in the kernel if the file system can, otherwise through a buffer."""
    done = 0
    while done < size:
        step = min(_COPY_BYTES, size - done)
        try:
            copied = os.copy_file_range(file.fileno(), out.fileno(), step, offset_src=offset + done)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
            file.seek(offset + done)
            copied = out.write(file.read(step))
            out.flush()
        if not copied:
            raise Mp4Error("the file became shorter while it was copied")
        done += copied
