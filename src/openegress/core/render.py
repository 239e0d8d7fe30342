"""When the picture of a room is composed. Pure."""

from enum import StrEnum


class Render(StrEnum):
    LIVE = "live"
    """While it is recorded."""
    DEFERRED = "deferred"
    """After it: until then tracks are stored as they are."""
