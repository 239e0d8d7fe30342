"""What a tree of processes uses, for benchmarks: CPU time and proportional memory."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Load:
    """A reading; subtract two for a rate."""

    at_s: float
    """Monotonic."""
    cpu_s: float
    """User and system time of the tree so far, including processes of it that have ended."""
    pss_bytes: int

    def cores_since(self, earlier: "Load") -> float:
        return (self.cpu_s - earlier.cpu_s) / (self.at_s - earlier.at_s)


def process_tree_load(pid: int) -> Load:
    """Raises psutil.NoSuchProcess if `pid` has ended."""
    return Load(time.monotonic(), process_tree_cpu(pid), process_tree_pss(pid))


def process_tree_cpu(pid: int) -> float:
    """CPU seconds of a process and all below it. Those already waited for count through their parents."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # ended while we looked; its parent has its time
        total += times.user + times.system + times.children_user + times.children_system
    return total


def process_tree_pss(pid: int) -> int:
    """Bytes: shared pages are divided among the processes that share them (proc(5), smaps_rollup)."""
    total = 0
    for process in _tree(pid):
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue  # ended while we looked, or a kernel thread
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
