"""What becomes of a pause. Pure."""

from enum import StrEnum


class PauseMode(StrEnum):
    """What becomes of the time in which a recording is paused."""

    CUT = "cut"
    """It is left out."""
    HOLD = "hold"
    """It is there, with a card in place of the picture, and silence."""
