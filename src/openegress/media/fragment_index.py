"""Indexes a file of fragments (media.fragments): samples by track, as the tables of a plain MP4 list them.

The index comes from the fragments alone, so it is the same whether the recording was closed or its process
died. Memory is bounded by the tables, about 20 bytes a sample.
"""

import os
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from openegress.core.codecs import MediaKind
from openegress.media.movie import TrackNames
from openegress.media.mp4 import ENTRY_CHANGE, Box, Mp4Error, ReadableFile, boxes, children

LONGEST_DELTA = 0x7FFFFFFF
"""Players read the time between two samples as a signed 32-bit number, though it is unsigned (8.6.1.2)."""

_MAX_HEADER_BYTES = 1024 * 1024
"""Limit for a moov or moof. A second of media at a thousand packets a second takes 32 kB; a larger box is
damaged."""
_SYNC_MASK = 0x00010000
"""sample_is_non_sync_sample (8.8.3.1)."""
_DAMAGE = (Mp4Error, struct.error, KeyError, IndexError, RecursionError, UnicodeDecodeError)
"""Exceptions that the parser raises on damaged boxes."""
_MIN_ENTRY_BYTES = 36
"""Size of a visual entry up to width and height (12.1.3); a sound entry is as long (12.2.3)."""
_LATEST = 1 << 61
"""The latest decode time, so that the sum of two cannot overflow."""
_OURS = (b"ftyp", b"free", b"moov", b"uuid", b"moof", b"mdat")
"""Top-level boxes that media.fragments writes."""


@dataclass(slots=True)
class Chunk:
    """Consecutive samples of one track, which become a chunk."""

    offset: int
    count: int
    entry: int
    """Index of the track's sample entry, from 0."""


@dataclass(slots=True)
class IndexedTrack:
    """A track of the header, with its samples in the fragments."""

    number: int
    kind: MediaKind
    timescale: int
    zero: int
    """Media time zero, in the track's time scale."""
    entry: bytes
    """The current sample entry."""
    entries: list[bytes] = field(default_factory=list)
    """The entries that have samples."""
    runs: list[Chunk] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("I"))
    deltas: "array[int]" = field(default_factory=lambda: array("q"))
    """Time from each sample's decode time to the next one's; for the last, its duration."""
    compositions: "array[int]" = field(default_factory=lambda: array("i"))
    sync: "array[int]" = field(default_factory=lambda: array("I"))
    """Numbers of the sync samples, from 1."""
    first_dts: int = 0
    last_dts: int = 0
    first_pts: int = 0
    """PTS of the earliest picture."""
    end_pts: int = 0


@dataclass(frozen=True, slots=True)
class FragmentIndex:
    tracks: Sequence[IndexedTrack]
    """The tracks that have samples."""
    media: Sequence[tuple[int, int]]
    """(offset, bytes) of each fragment's media, in order."""
    end: int
    """End of the last whole fragment."""
    names: Mapping[int, TrackNames]
    """Track names by number, if the file has many tracks."""
    every: Sequence[IndexedTrack] = ()
    """All tracks of the header."""

    @property
    def media_bytes(self) -> int:
        return sum(size for _, size in self.media)


def is_fragmented(path: Path) -> bool:
    """Whether media.fragments wrote the file, and it is not a plain MP4 yet."""
    with path.open("rb") as file:
        return begins_with_fragments(file, os.fstat(file.fileno()).st_size)


def begins_with_fragments(file: ReadableFile, length: int) -> bool:
    """Like is_fragmented(), for an open file. Raises Mp4Error if the file is not an MP4."""
    return [each.kind for each in islice(boxes(file, length), 3)] == [b"ftyp", b"free", b"moov"]


def read(file: BinaryIO) -> FragmentIndex:
    """Indexes a file, leaving out a torn end. Raises Mp4Error if the file has no fragments."""
    scan = _Scan(file, os.fstat(file.fileno()).st_size)
    media: list[tuple[int, int]] = []
    for fragment in scan.fragments():
        for run in fragment.runs:
            _add(run)
        media.append((fragment.media_offset, fragment.offset + fragment.size - fragment.media_offset))
    if not media:
        raise Mp4Error("it holds no media")
    every = list(scan.tracks.values())
    return FragmentIndex([track for track in every if track.sizes], media, scan.end, scan.names, every)


@dataclass(frozen=True, slots=True)
class WholeFragment:
    """The place of a fragment (its moof and mdat), and its contents."""

    header_bytes: int
    """Size of the file's header, before all fragments."""
    offset: int
    size: int
    media_offset: int
    """Offset of the content of its mdat."""
    runs: Sequence["TrackRun"]


def whole_fragments(file: ReadableFile, length: int) -> Iterator[WholeFragment]:
    """Reads the whole fragments in the first `length` bytes of a file that may still grow. Leaves out a torn
    end. Raises Mp4Error if the file has no header."""
    return _Scan(file, length).fragments()


class _Scan:
    """One pass over the boxes of a file."""

    def __init__(self, file: ReadableFile, length: int) -> None:
        self._file = file
        self._length = length
        self.tracks: dict[int, IndexedTrack] = {}
        self.names: dict[int, TrackNames] = {}
        self.end = 0
        """End of the last box that needs none after it (a moof needs its mdat)."""

    def fragments(self) -> Iterator[WholeFragment]:
        """Reads fragments up to the first damaged one. Raises Mp4Error if there is no header."""
        header_bytes = 0
        moof: tuple[Box, bytes] | None = None
        for each in _whole_boxes(self._file, self._length):
            match each.kind:
                case b"moov" if self.tracks:
                    break  # the index of a process that did not finish: it is rebuilt
                case b"moov":
                    self.tracks, self.names = _tracks(_content(self._file, each))
                    header_bytes = each.offset + each.size
                case b"uuid":
                    _change_entry(_content(self._file, each), self.tracks)
                case b"moof":
                    moof = (each, _content(self._file, each))
                case b"mdat" if moof is not None:
                    place = (each.offset + each.header, each.offset + each.size)
                    try:
                        runs = tuple(_runs(moof[1], moof[0].offset, place, self.tracks))
                    except _DAMAGE:
                        break
                    offset = moof[0].offset
                    yield WholeFragment(header_bytes, offset, place[1] - offset, place[0], runs)
                    moof = None
            if moof is None:
                self.end = each.offset + each.size
        if not self.tracks:
            raise Mp4Error("it has no header")


def _whole_boxes(file: ReadableFile, length: int) -> Iterator[Box]:
    """Reads boxes up to where the file is cut off, or where a power loss tore it."""
    try:
        for each in boxes(file, length):
            if each.offset + each.size > length or each.kind not in _OURS:
                return
            yield each
    except Mp4Error:
        return


def _content(file: ReadableFile, each: Box) -> bytes:
    if each.size > _MAX_HEADER_BYTES:
        raise Mp4Error(f"a {each.kind.decode('latin-1')} box of {each.size} bytes")
    file.seek(each.offset + each.header)
    return file.read(each.size - each.header)


def _tracks(moov: bytes) -> tuple[dict[int, IndexedTrack], dict[int, TrackNames]]:
    """Returns the tracks and their names, by number. Raises Mp4Error."""
    try:
        parsed = list(_parsed_tracks(moov))
        names = {track.number: names for track, names in parsed if names is not None}
        return {track.number: track for track, _ in parsed}, names
    except _DAMAGE as error:
        raise Mp4Error(f"its header is damaged: {error}") from error


def _parsed_tracks(moov: bytes) -> Iterator[tuple[IndexedTrack, TrackNames | None]]:
    for kind, at, size in children(moov, 0, len(moov)):
        if kind == b"trak":
            found = dict(_leaves(moov, at + 8, at + size))
            number = int.from_bytes(found[b"tkhd"][12:16], "big")
            timescale = int.from_bytes(found[b"mdhd"][12:16], "big")
            media = MediaKind.VIDEO if found[b"hdlr"][8:12] == b"vide" else MediaKind.AUDIO
            zero = struct.unpack_from(">i", found[b"elst"], 12)[0] if b"elst" in found else 0
            entry = found[b"stsd"][8:]
            if not timescale or len(entry) < _MIN_ENTRY_BYTES:
                raise Mp4Error("a track without a time scale or a description")
            yield IndexedTrack(number, media, timescale, zero, entry), _names(found)


def _names(found: dict[bytes, bytes]) -> TrackNames | None:
    """Reads the names from a track's boxes."""
    if b"name" not in found:
        return None
    return TrackNames(found[b"name"].decode(), found[b"hdlr"][24:].rstrip(b"\0").decode())


def _leaves(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    for kind, at, size in children(data, start, end):
        if kind in (b"edts", b"mdia", b"minf", b"stbl", b"udta"):
            yield from _leaves(data, at + 8, at + size)
        else:
            yield kind, data[at + 8 : at + size]


def _change_entry(content: bytes, tracks: dict[int, IndexedTrack]) -> None:
    is_whole = len(content) >= 20 + _MIN_ENTRY_BYTES
    if (
        content[:16] == ENTRY_CHANGE
        and is_whole
        and (track := tracks.get(int.from_bytes(content[16:20], "big")))
    ):
        track.entry = content[20:]


@dataclass(frozen=True, slots=True)
class TrackRun:
    """A track's samples in one fragment."""

    track: IndexedTrack
    offset: int
    dts: int
    durations: Sequence[int]
    sizes: Sequence[int]
    compositions: Sequence[int]
    flags: Sequence[int]
    """Sample flags of video."""

    @property
    def has_sync(self) -> bool:
        return any(not each & _SYNC_MASK for each in self.flags)


def _runs(
    moof: bytes, moof_offset: int, media: tuple[int, int], tracks: dict[int, IndexedTrack]
) -> Iterator[TrackRun]:
    """Returns the runs of a fragment. `media`: where the fragment's media begins and ends. Raises one of
    _DAMAGE."""
    for kind, at, size in children(moof, 0, len(moof)):
        if kind != b"traf":
            continue
        parts = dict(_leaves(moof, at + 8, at + size))
        track = tracks[int.from_bytes(parts[b"tfhd"][4:8], "big")]
        trun = parts[b"trun"]
        flags, count, data_offset = struct.unpack_from(">IIi", trun, 0)
        has_flags, has_compositions = bool(flags & 0x400), bool(flags & 0x800)
        width = 2 + has_flags + has_compositions
        if not 0 < count <= len(trun):
            raise Mp4Error(f"a fragment of {count} samples")
        rows = struct.unpack_from(f">{count * width}I", trun, 12)
        parsed = TrackRun(
            track,
            moof_offset + data_offset,
            int.from_bytes(parts[b"tfdt"][4:12], "big"),
            rows[0::width],
            rows[1::width],
            rows[width - 1 :: width] if has_compositions else (0,) * count,
            rows[2::width] if has_flags else (),
        )
        end = parsed.offset + sum(parsed.sizes)
        if parsed.offset < media[0] or end > media[1]:
            raise Mp4Error("a fragment whose samples are elsewhere")
        if parsed.dts > _LATEST or max(parsed.compositions) > LONGEST_DELTA:
            raise Mp4Error("a fragment without a time")
        yield parsed


def _add(run: TrackRun) -> None:
    track, dts = run.track, run.dts
    compositions, durations = run.compositions, run.durations
    first = len(track.sizes)
    if first:
        track.deltas[-1] = max(0, dts - track.last_dts)
    else:
        track.first_dts = dts
        track.first_pts = dts + compositions[0]
    track.sync.extend(first + n for n, each in enumerate(run.flags, 1) if not each & _SYNC_MASK)
    track.sizes.extend(run.sizes)
    track.deltas.extend(durations)
    track.compositions.extend(compositions)
    if track.entry not in track.entries:
        track.entries.append(track.entry)
    track.runs.append(Chunk(run.offset, len(run.sizes), track.entries.index(track.entry)))
    for duration, composition in zip(durations, compositions, strict=True):
        track.first_pts = min(track.first_pts, dts + composition)
        track.end_pts = max(track.end_pts, dts + composition + duration)
        track.last_dts = dts
        dts += duration
