"""Which rooms a part of the configuration applies to. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def fits(room_name: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` matches the room: *, ? and [...] as in shells, case-sensitive. A recording
    without a room ("") matches none."""
    return bool(room_name) and any(fnmatchcase(room_name, pattern) for pattern in patterns)
