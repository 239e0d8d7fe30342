"""Measures what a recording uses of the machine: its handler and everything the handler started."""

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    cores: float
    rss_bytes: int


class UsageMeter:
    """Measures process trees. Cores are means since the previous measurement of the same tree."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}

    def measure(self, pids: dict[str, int]) -> dict[str, ProcessUsage]:
        """Measures the process trees of `pids`, which maps a name to the root of its tree. Trees that have
        ended are left out."""
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


def _family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty if it has ended, or nothing can be read of it now."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except (psutil.Error, OSError):
        return []


def _tree(pid: int) -> tuple[float, int] | None:
    """Returns (CPU seconds, RSS bytes) of a process and its descendants; None if it has ended, or cannot be
    read now (no free descriptor for /proc)."""
    family = _family(pid)
    if not family:
        return None
    busy_s, rss_bytes = 0.0, 0
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                busy_s += times.user + times.system
                rss_bytes += process.memory_info().rss
        except (psutil.Error, OSError):
            continue  # like one that ended between listing and reading
    return busy_s, rss_bytes


def spent_s(pid: int) -> float:
    """CPU seconds of a process and of all processes that it started, ended or not; 0 if it has ended."""
    seconds = 0.0
    for process in _family(pid):
        try:
            seconds += sum(process.cpu_times()[:4])  # its own, and those of children that it has waited for
        except (psutil.Error, OSError):
            continue
    return seconds


class Spending:
    """The cores that each egress has used over its life."""

    def __init__(self) -> None:
        self._most: dict[str, float] = {}
        self._ended: dict[str, tuple[float, float]] = {}

    def see(self, usage: dict[str, ProcessUsage]) -> None:
        """Takes what each process used since the previous look."""
        for name, one in usage.items():
            self._most[name] = max(one.cores, self._most.get(name, 0.0))

    def end(self, name: str, busy_s: float, elapsed_s: float) -> None:
        """Takes the totals of a process that is about to end."""
        mean = busy_s / elapsed_s if elapsed_s > 0 else 0.0
        self._ended[name] = mean, max(mean, self._most.pop(name, 0.0))

    def take(self, name: str) -> tuple[float, float] | None:
        """Returns (mean, maximum); None if no process was measured to its end."""
        self._most.pop(name, None)
        return self._ended.pop(name, None)
