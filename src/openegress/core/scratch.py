"""Where a handler's browser keeps its files. The folder is named after the handler's process, so that the
worker can remove it after a killed one."""

from pathlib import Path

_PREFIX = ".browser-"
TEMPORARY_PREFIX = "openegress-browser-"
"""Prefix of folders in the system's temporary folder, used where the browser's user cannot reach the
spool."""


def browser_folder(spool: str, pid: int) -> Path:
    """Profile and sockets of a process's browser, which are worthless once it has ended."""
    return Path(spool) / f"{_PREFIX}{pid}"


def browser_pids(spool: str) -> list[int]:
    """The processes whose folders exist."""
    numbers = (folder.name.removeprefix(_PREFIX) for folder in Path(spool).glob(f"{_PREFIX}*"))
    return [int(number) for number in numbers if number.isdecimal()]


def temporary_prefix(pid: int) -> str:
    return f"{TEMPORARY_PREFIX}{pid}-"
