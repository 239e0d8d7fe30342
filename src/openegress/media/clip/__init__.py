"""Cuts part of a recording into a separate file: pictures and sound are copied, except for pictures at the
edges that depend on others outside."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from openegress.core.units import S

TICKS = Fraction(1, 90_000)
"""Unit for comparing picture times: every container's, except those with a coarser one."""
TICKS_PER_S = 90_000


def ticks_of(ns: int) -> int:
    return (2 * ns * TICKS_PER_S + S) // (2 * S)


class Bytes(Protocol):
    """A file, wherever it is stored. Methods raise EgressError and OSError."""

    def size(self) -> int: ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Reads at most `size` bytes; fewer only at the end."""


_BEHIND_NS = 2 * S
"""Limit for how far a track may be behind the others; beyond it, the track has ended or is muted."""


def common_end_ns(ends: Iterable[int]) -> int:
    """Returns the time up to which all tracks are recorded: a picture encoder is behind a sound encoder."""
    known = list(ends)
    latest = max(known, default=0)
    return min((each for each in known if each > latest - _BEHIND_NS), default=0)
