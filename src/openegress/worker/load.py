"""Measures the load that admission decides on: cgroup v2 limits where there are any, else the machine."""

import time
from pathlib import Path

import psutil

from openegress.worker.admission import Load

_CGROUP = Path("/sys/fs/cgroup")
_WINDOW_S = 0.5
"""Minimum interval of measurements: a shorter one says nothing about a load that moves in frames of 33 ms."""


class LoadMeter:
    """Measures the load. sample() costs a few file reads. The used cores are the mean since the previous
    sample."""

    def __init__(self, cgroup: Path = _CGROUP) -> None:
        self._cgroup = cgroup
        self._cores = _cgroup_cores(cgroup) or float(psutil.cpu_count() or 1)
        self._busy_s = self._busy()
        self._at_s = time.monotonic()
        self._used = 0.0
        self._latest = Load(self._cores, 0.0, *self._memory())

    def sample(self) -> Load:
        """The current load; the previous one if the system cannot tell (no free descriptor to read with)."""
        try:
            self._latest = self._measure()
        except OSError:
            pass
        return self._latest

    def _measure(self) -> Load:
        now_s = time.monotonic()
        if now_s - self._at_s >= _WINDOW_S:
            busy_s = self._busy()
            self._used = max(0.0, (busy_s - self._busy_s) / (now_s - self._at_s))
            self._busy_s, self._at_s = busy_s, now_s
        total, free, in_cgroup = self._memory()
        return Load(self._cores, self._used, total, free, in_cgroup)

    def _busy(self) -> float:
        usage = value_in(self._cgroup / "cpu.stat", "usage_usec") if self._limited else None
        if usage is not None:
            return usage / 1e6
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Guest time is part of user time already.
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return float(sum(times) - idle - guest)

    @property
    def _limited(self) -> bool:
        return _cgroup_cores(self._cgroup) is not None

    def _memory(self) -> tuple[int, int, bool]:
        """Returns the total and the free memory, and whether they are those of a cgroup."""
        machine = psutil.virtual_memory()
        limit = _read(self._cgroup / "memory.max")
        current = _read(self._cgroup / "memory.current")
        if limit is None or current is None or not limit.isdigit():
            return machine.total, machine.available, False
        # Page cache counts as used in memory.current, but the kernel frees it under pressure.
        cache = value_in(self._cgroup / "memory.stat", "inactive_file") or 0
        return int(limit), min(machine.available, int(limit) - int(current) + int(cache)), True


def _cgroup_cores(cgroup: Path) -> float | None:
    """The CPU limit of a container; None without one (cgroup v2 cpu.max: "quota period" or "max period")."""
    text = _read(cgroup / "cpu.max")
    if text is None or text.startswith("max"):
        return None
    quota, period = text.split()
    return int(quota) / int(period)


def value_in(path: Path, key: str) -> float | None:
    """The value of a key in a kernel file with "key value" lines; None without that file or key."""
    for line in (_read(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return float(value)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None  # there is no such limit here
