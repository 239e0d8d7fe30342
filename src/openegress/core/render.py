"""When the picture of a room is composed. Pure."""

from enum import StrEnum


class Render(StrEnum):
    LIVE = "live"
    """While recording."""
    DEFERRED = "deferred"
    """Afterwards; until then, tracks are stored as they are."""
