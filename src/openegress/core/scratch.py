"""Where a handler's browser keeps its files: named after the handler's process, so that its worker can
clear up after one that was killed."""

from pathlib import Path

_PREFIX = ".browser-"
TEMPORARY_PREFIX = "openegress-browser-"
"""Of folders in the system's temporary folder, taken where the browser's user cannot reach the spool."""


def browser_folder(spool: str, pid: int) -> Path:
    """Profile and sockets of a process' browser: worth nothing once it has ended."""
    return Path(spool) / f"{_PREFIX}{pid}"


def browser_pids(spool: str) -> list[int]:
    """Of the processes whose folders are there."""
    numbers = (folder.name.removeprefix(_PREFIX) for folder in Path(spool).glob(f"{_PREFIX}*"))
    return [int(number) for number in numbers if number.isdecimal()]


def temporary_prefix(pid: int) -> str:
    return f"{TEMPORARY_PREFIX}{pid}-"
