"""What a running service holds of the machine, to check whether work leaves something behind."""

import asyncio
import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from testkit.service import Service

_POOL = (os.cpu_count() or 1) + 4 + 2
"""Up to this number, threads are not growth: asyncio's pool of (cores + 4) fills up as needed, beside the
event loop's thread and SQLite's. One thread left by each recording would soon exceed it."""


_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""

_DISPLAYS = Path("/tmp/.X11-unix")


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """Meanwhile a process whose parent died becomes this one's child, and so is counted. Otherwise it would
    become init's, where nobody looks for it. Init, however, also reaps: so only meanwhile."""
    _adopt(True)
    try:
        yield
    finally:
        _adopt(False)


def _adopt(orphans: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(orphans), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a service holds of the machine."""

    children: int
    """Processes below the service, and those that lost their parent (orphans_adopted)."""
    threads: int
    files: int
    listening: int
    spool: tuple[str, ...]
    temporary: tuple[str, ...]
    """Names in the folder for temporary files, which only the service should use."""
    displays: tuple[str, ...]
    """Sockets of displays that nobody serves any more."""
    rss_bytes: int = field(compare=False)

    @classmethod
    def of(cls, service: Service) -> "ResourceUsage":
        process = psutil.Process(service.pid)
        family = [process, *process.children(recursive=True)]
        return cls(
            len(family) + sum(_lives(one) for one in psutil.Process().children() if one != process) - 1,
            process.num_threads(),
            process.num_fds() - _kept_alive(process),
            sum(_listening(one) for one in family),
            tuple(sorted(path.name for path in (service.data / "spool").glob("*"))),
            tuple(sorted(path.name for path in Path(tempfile.gettempdir()).iterdir())),
            tuple(sorted(_deserted())),
            process.memory_info().rss,
        )


def _lives(process: psutil.Process) -> bool:
    """An orphan that has ended stays a zombie here: nobody waits for it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _deserted() -> set[str]:
    served = Path("/proc/net/unix").read_text()
    return {path.name for path in _DISPLAYS.glob("X*") if f"{path}\n" not in served}


def _listening(process: psutil.Process) -> int:
    try:
        return sum(each.status == psutil.CONN_LISTEN for each in process.net_connections())
    except psutil.NoSuchProcess:
        return 0  # it has just ended


def _kept_alive(process: psutil.Process) -> int:
    """Established connections: clients' connections stay open for as long as the clients want."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("inet"))


def grown(before: ResourceUsage, after: ResourceUsage) -> list[str]:
    """What has grown."""
    floors = {"children": before.children, "threads": max(before.threads, _POOL)}
    floors |= {"files": before.files, "listening": before.listening}
    more = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name, most in floors.items()
        if getattr(after, name) > most
    ]
    for name in ("spool", "temporary", "displays"):
        more += [f"{name}: {each}" for each in getattr(after, name) if each not in getattr(before, name)]
    return more


def _has_spare(service: Service) -> bool:
    return not all(map(service.records, service.handlers()))


async def settled(service: Service, expected: ResourceUsage | None = None) -> ResourceUsage:
    """What it holds once a handler waits for the next request, nothing changes any more, and nothing has
    grown beyond `expected`, if given."""
    before = await asyncio.to_thread(ResourceUsage.of, service)
    for _ in range(40):
        await asyncio.sleep(0.5)
        now = await asyncio.to_thread(ResourceUsage.of, service)
        is_quiet = now == before and await asyncio.to_thread(_has_spare, service)
        if is_quiet and (expected is None or not grown(expected, now)):
            return now
        before = now
    return before
