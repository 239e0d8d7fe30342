"""Where a handler's browser keeps its files: named after the handler's process, so that its worker can
clear up after one that was killed."""

from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".browser-"
TEMPORARY_PREFIX = "openegress-browser-"
"""Of folders in the system's temporary folder, taken where the browser's user cannot reach the spool."""


def browser_folder(spool: str, pid: int) -> Path:
    """Profile and sockets of a process' browser: worth nothing once it has ended."""
    return Path(spool) / f"{_PREFIX}{pid}"


def browser_folders(spool: str) -> Iterator[tuple[int, Path]]:
    """(pid, folder) of all that are there."""
    for folder in Path(spool).glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdecimal():
            yield int(number), folder


def temporary_prefix(pid: int) -> str:
    return f"{TEMPORARY_PREFIX}{pid}-"
