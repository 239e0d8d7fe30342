"""Names the files in the spool folder of a segmented output, as they are written and as a recovery finds
them, and keeps the number of bytes made. Pure except for inits()."""

import re
from pathlib import Path

from openegress.request import naming

MADE = "made.m3u8"
"""Name of the list of every finished segment, stored or not, which ends with their size."""

_BYTES, _BEGUN = "#made-bytes:", "#begun-at-ns:"
"""Marks of our own lines. Readers of playlists ignore them as comments (RFC 8216, 4.1)."""


def made(playlist: str, size_bytes: int, begun_at_ns: int = 0) -> str:
    """Returns the text of MADE. `size_bytes`: size of all segments in the playlist, most of which are already
    stored and removed. `begun_at_ns`: unix ns of the next segment, if it does not continue the last one."""
    begun = f"{_BEGUN}{begun_at_ns}\n" if begun_at_ns else ""
    return f"{playlist}{begun}{_BYTES}{size_bytes}\n"


def made_bytes(text: str) -> int:
    """Returns the size that made() was given; 0 when it got none."""
    return _number(_BYTES, text)


def begun_at_ns(text: str) -> int:
    """Returns the `begun_at_ns` that made() was given; 0 when it got none."""
    return _number(_BEGUN, text)


def _number(comment: str, text: str) -> int:
    found = re.search(f"^{comment}([0-9]{{1,19}})$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def segment(folder: Path, index: int, extension: str) -> Path:
    return folder / f"{index:05d}{extension}"


def init(folder: Path, number: int) -> Path:
    """Returns the path of the initialisation segment that is stored as naming.init_file(prefix, number)."""
    return folder / naming.init_file("", number).removeprefix("_")


def inits(folder: Path) -> list[Path]:
    """Returns the initialisation segments in the order of their numbers."""
    found = [path for path in folder.iterdir() if re.fullmatch(r"init(_[0-9]+)?\.mp4", path.name)]
    return [init(folder, number) for number in range(len(found))]
