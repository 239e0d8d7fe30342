"""Writes chapters for MP4, Matroska and WebVTT. Pure."""

import struct
from collections.abc import Sequence

from openegress.core.marker import Marker, sorted_markers, spaced
from openegress.core.units import MS
from openegress.media.ebml import element, number, text
from openegress.media.movie import box, full_box

MAX_CHAPTERS = 255
"""Limit of a chpl box, which counts chapters in one byte."""
_MAX_BYTES = 255
_TICK_NS = 100


def chapter_box(markers: Sequence[Marker]) -> bytes:
    """Builds the moov's udta box with Nero's chpl, which FFmpeg, VLC and mpv read; b"" without markers."""
    if not markers:
        return b""
    shown = sorted_markers(tuple(markers))[:MAX_CHAPTERS]
    rows = bytearray()
    for each in shown:
        title = each.name.encode()[:_MAX_BYTES].decode(errors="ignore").encode()
        rows += struct.pack(">QB", max(0, each.at_ns) // _TICK_NS, len(title)) + title
    return box(b"udta", full_box(b"chpl", 1, 0, bytes(4), struct.pack(">B", len(shown)), bytes(rows)))


def matroska_chapters(markers: Sequence[Marker]) -> bytes:
    """Builds the Chapters element (RFC 9559 section 5.1.7); b"" without markers."""
    if not markers:
        return b""
    atoms = [
        element(
            b"\xb6",  # ChapterAtom
            number(b"\x73\xc4", uid)  # ChapterUID
            + number(b"\x91", each.at_ns)  # ChapterTimeStart
            + element(b"\x80", text(b"\x85", each.name) + text(b"\x43\x7c", "und")),  # ChapterDisplay
        )
        for uid, each in enumerate(spaced(tuple(markers), MS), 1)
    ]
    edition = number(b"\x45\xbc", 1) + element(b"\x45\xdb", b"\x01")  # EditionUID, EditionFlagDefault
    return element(b"\x10\x43\xa7\x70", element(b"\x45\xb9", edition + b"".join(atoms)))


def webvtt(markers: Sequence[Marker], end_ns: int) -> str:
    """Builds a chapters file (WebVTT, "chapters text track"): each chapter lasts until the next, the last
    until the end."""
    shown = sorted_markers(tuple(markers))
    ends = [*(each.at_ns for each in shown[1:]), end_ns]
    cues = [
        f"{number}\n{_time(each.at_ns)} --> {_time(max(each.at_ns + MS, until_ns))}\n{_text(each.name)}\n"
        for number, (each, until_ns) in enumerate(zip(shown, ends, strict=True), 1)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _time(at_ns: int) -> str:
    at_ms = max(0, at_ns) // MS
    return f"{at_ms // 3_600_000:02d}:{at_ms // 60_000 % 60:02d}:{at_ms // 1000 % 60:02d}.{at_ms % 1000:03d}"


def _text(name: str) -> str:
    """Removes characters that would end a cue or begin markup."""
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(escaped.split()) or "-"
