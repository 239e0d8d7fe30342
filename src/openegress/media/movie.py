"""Builds boxes of an MP4 (ISO/IEC 14496-12): headers of the movie and its tracks. Pure."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from openegress.core.codecs import MediaKind

MOVIE_TIMESCALE = 90_000
"""Time scale of edits and total durations: as fine as our finest video track, so that rounding starts nothing
late."""

BRANDS = (b"isom", b"iso6", b"iso2", b"avc1", b"mp41")
"""Brands of our files: ISO base media with fragments whose offsets count from their moof (iso6), and brands
that older players need."""

FTYP_MINOR = 0x200

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""The unity matrix in 16.16 and 2.30 fixed point."""
_UNDETERMINED = 0x55C4
"""Language "und" of ISO 639-2, as three letters of five bits."""
_ENABLED, _NOT_ENABLED = 3, 2
"""Track flags: part of the presentation, and enabled."""
_MAX_32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Edit:
    """Part of a track's presentation (8.6.6)."""

    duration: int
    """Duration in MOVIE_TIMESCALE; 0: all fragments to come."""
    media_time: int | None
    """Where the edit begins in the media, in the track's time scale; None: nothing is shown."""


@dataclass(frozen=True, slots=True)
class TrackNames:
    """Names of one track among many. FFmpeg reads both fields, older releases only the second."""

    title: str
    """Name in the user data (QuickTime File Format, "User data text strings")."""
    handler: str
    """Name of its handler (8.4.3)."""


@dataclass(frozen=True, slots=True)
class TrackHead:
    """The values in the boxes above a track's sample tables."""

    number: int
    """Track number, from 1."""
    kind: MediaKind | None
    """Kind of its media; None: text, which is not enabled."""
    timescale: int
    entries: Sequence[bytes]
    """Sample entries, as boxes of the stsd."""
    edits: Sequence[Edit] = ()
    media_duration: int = 0
    """Duration of the media in its time scale; 0: unknown."""
    duration: int = 0
    """Duration of all edits together, in MOVIE_TIMESCALE."""
    chapters: int = 0
    """The number of the track with this track's chapters; 0: none."""
    names: "TrackNames | None" = None
    """Names of the track; None: it is the only one of its kind."""


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def ftyp() -> bytes:
    return box(b"ftyp", BRANDS[0], struct.pack(">I", FTYP_MINOR), *BRANDS)


_GENERIC_HEADER = box(
    b"gmhd",
    full_box(b"gmin", 0, 0, bytes.fromhex("0040 8000 8000 8000 0000 0000")),
    box(b"text", struct.pack(">H8IH", 1, 0, 0, 0, 1, 0, 0, 0, 0x4000, 0)),
)
"""Media header of text (QuickTime File Format, "Text Media Information"): unity matrix."""
_HANDLERS = {
    MediaKind.VIDEO: (b"vide", "VideoHandler", full_box(b"vmhd", 0, 1, bytes(8))),
    MediaKind.AUDIO: (b"soun", "SoundHandler", full_box(b"smhd", 0, 0, bytes(4))),
    None: (b"text", "TextHandler", _GENERIC_HEADER),
}
"""Handlers as (type, name, media header)."""


def mvhd(duration: int, tracks: int) -> bytes:
    times = _times(MOVIE_TIMESCALE, duration)
    rest = struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24) + struct.pack(">I", tracks + 1)
    return full_box(b"mvhd", _version(duration), 0, times, rest)


def trak(head: TrackHead, tables: bytes) -> bytes:
    """Builds a track's box. `tables`: the boxes after stsd in stbl."""
    chapters = box(b"tref", box(b"chap", struct.pack(">I", head.chapters))) if head.chapters else b""
    told = box(b"udta", box(b"name", head.names.title.encode())) if head.names else b""
    return box(b"trak", _tkhd(head), _edts(head.edits), chapters, _mdia(head, tables), told)


def picture_size(entry: bytes) -> tuple[int, int]:
    """Reads width and height from a visual sample entry (12.1.3)."""
    width, height = struct.unpack_from(">HH", entry, 32)
    return width, height


def _mdia(head: TrackHead, tables: bytes) -> bytes:
    mdhd = full_box(
        b"mdhd",
        _version(head.media_duration),
        0,
        _times(head.timescale, head.media_duration),
        struct.pack(">HH", _UNDETERMINED, 0),
    )
    handler, name, media_header = _HANDLERS[head.kind]
    name = head.names.handler if head.names else name
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), name.encode() + b"\0")
    here = full_box(b"url ", 0, 1)
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), here))
    stsd = full_box(b"stsd", 0, 0, struct.pack(">I", len(head.entries)), *head.entries)
    return box(b"mdia", mdhd, hdlr, box(b"minf", media_header, dinf, box(b"stbl", stsd, tables)))


def _tkhd(head: TrackHead) -> bytes:
    is_video = head.kind is MediaKind.VIDEO
    # If there are several sizes, the last counts: FFmpeg, and so Chromium, takes a stream's size from the
    # last entry, and stretches all pictures if the track's size differs.
    width, height = picture_size(head.entries[-1]) if is_video else (0, 0)
    version = _version(head.duration)
    times = struct.pack(">QQIIQ" if version else ">IIIII", 0, 0, head.number, 0, head.duration)
    # The tracks of several people are not alternatives to each other.
    group, volume = (0 if head.names else 1, 0x100) if head.kind is MediaKind.AUDIO else (0, 0)
    rest = bytes(8) + struct.pack(">hhHH", 0, group, volume, 0) + _MATRIX
    flags = _NOT_ENABLED if head.kind is None else _ENABLED
    return full_box(b"tkhd", version, flags, times, rest, struct.pack(">II", width << 16, height << 16))


def _edts(edits: Sequence[Edit]) -> bytes:
    if not edits:
        return b""
    rows = [(edit.duration, -1 if edit.media_time is None else edit.media_time) for edit in edits]
    wide = any(duration > _MAX_32 or at > 0x7FFFFFFF for duration, at in rows)
    packed = [struct.pack(">QqI" if wide else ">IiI", duration, at, 0x10000) for duration, at in rows]
    return box(b"edts", full_box(b"elst", int(wide), 0, struct.pack(">I", len(rows)), *packed))


def _times(timescale: int, duration: int) -> bytes:
    """Builds creation and modification time, time scale and duration, as in mvhd and mdhd."""
    return struct.pack(">QQIQ" if _version(duration) else ">IIII", 0, 0, timescale, duration)


def _version(duration: int) -> int:
    return int(duration > _MAX_32)
