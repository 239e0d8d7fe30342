"""The words by which a recording is paused and resumed. Pure.

They travel as the name of a layout does, in the metadata of the recorder's participant: any SDK can send
them by UpdateLayout, a stock livekit-server hands them on, and they reach a recorder on any machine.
"""

from enum import StrEnum


class PauseOrder(StrEnum):
    """In place of a layout's name."""

    PAUSE = "@pause"
    RESUME = "@resume"


def order_of(layout: str | None) -> PauseOrder | None:
    """None: it names a layout."""
    return PauseOrder(layout) if layout in tuple(PauseOrder) else None
