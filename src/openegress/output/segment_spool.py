"""The folder of a segmented output in the spool, as it is written and as a recovery finds it. Names only."""

import re
from pathlib import Path

from openegress.core import naming

MADE = "made.m3u8"
"""Lists every segment that was finished, stored or not."""


def segment(folder: Path, index: int, extension: str) -> Path:
    return folder / f"{index:05d}{extension}"


def init(folder: Path, number: int) -> Path:
    """The initialisation segment that is stored as naming.init_file(prefix, number)."""
    return folder / naming.init_file("", number).removeprefix("_")


def inits(folder: Path) -> list[Path]:
    """In the order of their numbers."""
    found = [path for path in folder.iterdir() if re.fullmatch(r"init(_[0-9]+)?\.mp4", path.name)]
    return [init(folder, number) for number in range(len(found))]
