"""Which rooms a part of the configuration is for. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def fits(room_name: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` is for the room: *, ? and [...] as shells have them; case counts. What is
    in no room ("") fits none."""
    return bool(room_name) and any(fnmatchcase(room_name, pattern) for pattern in patterns)
