"""The folder of a segmented output in the spool, as it is written and as a recovery finds it. Names, and how
many bytes were made. Pure but for inits()."""

import re
from pathlib import Path

from openegress.request import naming

MADE = "made.m3u8"
"""Lists every segment that was finished, stored or not, and ends in their size."""

_BYTES, _BEGUN = "#made-bytes:", "#begun-at-ns:"
"""Comments to whoever reads playlists (RFC 8216, 4.1)."""


def made(playlist: str, size_bytes: int, begun_at_ns: int = 0) -> str:
    """The text of MADE. `size_bytes` of all segments in the playlist: most are stored and gone when somebody
    asks. `begun_at_ns`: unix ns of the segment after them, where that does not continue the last one."""
    begun = f"{_BEGUN}{begun_at_ns}\n" if begun_at_ns else ""
    return f"{playlist}{begun}{_BYTES}{size_bytes}\n"


def made_bytes(text: str) -> int:
    """What made() was told; 0 when it was told nothing."""
    return _number(_BYTES, text)


def begun_at_ns(text: str) -> int:
    """As made_bytes()."""
    return _number(_BEGUN, text)


def _number(comment: str, text: str) -> int:
    found = re.search(f"^{comment}([0-9]{{1,19}})$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def segment(folder: Path, index: int, extension: str) -> Path:
    return folder / f"{index:05d}{extension}"


def init(folder: Path, number: int) -> Path:
    """The initialisation segment that is stored as naming.init_file(prefix, number)."""
    return folder / naming.init_file("", number).removeprefix("_")


def inits(folder: Path) -> list[Path]:
    """In the order of their numbers."""
    found = [path for path in folder.iterdir() if re.fullmatch(r"init(_[0-9]+)?\.mp4", path.name)]
    return [init(folder, number) for number in range(len(found))]
