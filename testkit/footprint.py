"""Everything that a service has on the machine while it records, to check that nothing of it stays."""

import asyncio
import contextlib
import time
from pathlib import Path

import psutil

from testkit.service import Service

SETTLE_S = 5.0
"""Killed processes are reaped by the process that inherits them, and there is no event for that."""


class Footprint:
    """The processes that record, with their folders and displays."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._processes: set[psutil.Process] = set()
        self._folders: set[Path] = set()

    def note(self) -> set[str]:
        """Remembers the current state; returns the names of the programs."""
        names = set()
        for handler in map(psutil.Process, self._service.handlers()):
            with contextlib.suppress(psutil.NoSuchProcess):
                family = handler.children(recursive=True)
                # A process without children waits for its first request, and stays.
                for process in (handler, *family) if family else ():
                    names.add(process.name())
                    self._processes.add(process)
                    self._folders.update(_folders(process.cmdline()))
        return names

    async def check_gone(self) -> None:
        """Asserts that everything noted is gone, and that the spool is empty."""
        deadline = time.monotonic() + SETTLE_S
        while left := self._left():
            assert time.monotonic() < deadline, f"left behind: {left}"
            await asyncio.sleep(0.05)

    def _left(self) -> list[str]:
        pids = {process.pid for process in self._processes if _alive(process)}
        folders = [folder for folder in self._folders if folder.exists()]
        spooled = [
            path for path in (self._service.data / "spool").glob("*") if path.name[:3] in ("EG_", ".br")
        ]
        locks = [lock for lock in Path("/tmp").glob(".X*-lock") if _holder(lock) in self._pids()]
        return [str(each) for each in (*sorted(pids), *folders, *spooled, *locks)]

    def _pids(self) -> set[int]:
        return {process.pid for process in self._processes}


def _folders(command: list[str]) -> set[Path]:
    """The temporary folders that a command line names."""
    parts = [part.partition("=")[2] or part for part in command]
    return {Path(*Path(part).parts[:3]) for part in parts if part.startswith("/tmp/openegress-")}


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _holder(lock: Path) -> int:
    """The process id in an X server's lock file; 0 if it has just gone."""
    try:
        return int(lock.read_text())
    except (OSError, ValueError):
        return 0
