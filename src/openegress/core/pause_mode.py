"""What happens to the time in which a recording is paused. Pure."""

from enum import StrEnum


class PauseMode(StrEnum):
    """What happens to the time in which a recording is paused."""

    CUT = "cut"
    """It is cut out."""
    HOLD = "hold"
    """It stays, with a card in place of the picture, and silence."""
