"""Counts how often the kernel has killed a process because memory ran out."""

from pathlib import Path

from openegress.worker.load import value_in

_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")
"""The events that cgroup v2 counts; the file does not exist outside a container."""
_VMSTAT = Path("/proc/vmstat")


def oom_kills(of_container: Path = _CGROUP_EVENTS, of_machine: Path = _VMSTAT) -> int:
    """The count so far, of this container or else of this machine; 0 without a counter."""
    counted = value_in(of_container, "oom_kill")
    return int(counted if counted is not None else value_in(of_machine, "oom_kill") or 0)
