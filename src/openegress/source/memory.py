"""Measures the memory that a process uses (/proc, see proc(5)), and decides when that is too much."""

import ctypes
import resource
from enum import Enum, auto
from pathlib import Path

_PRIVATE_FIELDS = ("RssAnon:", "RssShmem:")
"""The fields to add up. Memory mapped from files does not count, because other processes share it."""
RELEASE_SHARE = 0.9
"""Share of the limit below which nothing more is dropped."""

_PR_SET_THP_DISABLE = 41
"""From linux/prctl.h."""


def process_bytes(pid: int | str) -> int:
    """The memory of one process ("self": this one); 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_PRIVATE_FIELDS))


def release_free_memory() -> None:
    """Returns freed memory that the C library keeps to the system (malloc_trim(3), glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def avoid_huge_pages() -> None:
    """Disables huge pages permanently, for this process and those that it starts (PR_SET_THP_DISABLE,
    prctl(2)): x264 asks for pages of 2 MiB, which save an encoder of 720p no time and cost it 4 MiB at the
    ends of its pictures."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def limit(most_bytes: int) -> None:
    """Limits the memory of this process permanently (RLIMIT_DATA, getrlimit(2)). Beyond that, allocations
    raise MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class Shedding(Enum):
    """What is dropped when memory is short."""

    NOTHING = auto()
    QUEUES = auto()
    """Media that waits to be decoded."""
    TRACK = auto()
    """The video that holds the most."""


class MemoryLimit:
    """Decides what to drop, by readings at regular times. Pure."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: the limit; 0: none."""
        self._most_bytes = most_bytes
        self._is_short = False

    def look(self, used_bytes: int) -> Shedding:
        limit = self._most_bytes * (RELEASE_SHARE if self._is_short else 1)
        if not self._most_bytes or used_bytes <= limit:
            self._is_short = False
            return Shedding.NOTHING
        shedding = Shedding.TRACK if self._is_short else Shedding.QUEUES
        self._is_short = True
        return shedding
