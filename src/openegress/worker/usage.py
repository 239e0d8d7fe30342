"""What a recording takes of the machine: its handler and everything the handler started."""

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    cores: float
    rss_bytes: int


class UsageMeter:
    """Cores are means since the measurement before, of the same process tree."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}

    def measure(self, pids: dict[str, int]) -> dict[str, ProcessUsage]:
        """`pids` maps a name to the root of its process tree; trees that are gone are left out."""
        now_s = time.monotonic()
        usage: dict[str, ProcessUsage] = {}
        seen: dict[int, tuple[float, float]] = {}
        for name, pid in pids.items():
            measured = _tree(pid)
            if measured is None:
                continue
            busy_s, rss_bytes = measured
            before_s, before_busy_s = self._before.get(pid, (now_s, busy_s))
            elapsed_s = now_s - before_s
            cores = max(0.0, busy_s - before_busy_s) / elapsed_s if elapsed_s > 0 else 0.0
            usage[name] = ProcessUsage(cores, rss_bytes)
            seen[pid] = (now_s, busy_s)
        self._before = seen
        return usage


def _tree(pid: int) -> tuple[float, int] | None:
    """(CPU seconds, RSS bytes) of a process and its descendants; None when it is gone."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    busy_s, rss_bytes = 0.0, 0
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                busy_s += times.user + times.system
                rss_bytes += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended between listing and reading
    return busy_s, rss_bytes
