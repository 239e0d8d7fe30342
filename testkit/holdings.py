"""What a running service holds of the machine, to see whether work leaves something behind."""

import asyncio
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from testkit.service import Service

_POOL = (os.cpu_count() or 1) + 4 + 2
"""Up to this, threads are no growth: asyncio's pool of (cores + 4) fills up as it is needed, beside the event
loop's and SQLite's. One that each recording left behind would soon be beyond it."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a service holds of the machine."""

    children: int
    threads: int
    files: int
    listening: int
    spool: tuple[str, ...]
    temporary: tuple[str, ...]
    """Names in the folder for temporary files, which the service should have to itself."""
    rss_bytes: int = field(compare=False)

    @classmethod
    def of(cls, service: Service) -> "Holdings":
        process = psutil.Process(service.pid)
        family = [process, *process.children(recursive=True)]
        return cls(
            len(family) - 1,
            process.num_threads(),
            process.num_fds() - _kept_alive(process),
            sum(_listening(one) for one in family),
            tuple(sorted(path.name for path in (service.data / "spool").glob("*"))),
            tuple(sorted(path.name for path in Path(tempfile.gettempdir()).iterdir())),
            process.memory_info().rss,
        )


def _listening(process: psutil.Process) -> int:
    try:
        return sum(each.status == psutil.CONN_LISTEN for each in process.net_connections())
    except psutil.NoSuchProcess:
        return 0  # it has just ended


def _kept_alive(process: psutil.Process) -> int:
    """Connections that are established: those of clients stay open for as long as the clients want."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("inet"))


def grown(before: Holdings, after: Holdings) -> list[str]:
    """What there is more of."""
    floors = {"children": before.children, "threads": max(before.threads, _POOL)}
    floors |= {"files": before.files, "listening": before.listening}
    more = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name, most in floors.items()
        if getattr(after, name) > most
    ]
    more += [name for name in after.spool if name not in before.spool]
    return more + [name for name in after.temporary if name not in before.temporary]


async def settled(service: Service, expected: Holdings | None = None) -> Holdings:
    """What it holds once that does not change, or is as expected."""
    before = await asyncio.to_thread(Holdings.of, service)
    for _ in range(40):
        await asyncio.sleep(0.5)
        now = await asyncio.to_thread(Holdings.of, service)
        if now == before and (expected is None or not grown(expected, now)):
            return now
        before = now
    return before
