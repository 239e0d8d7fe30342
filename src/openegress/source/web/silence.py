"""Detects a display that neither draws nor answers, and reports it once. Pure."""

from enum import Enum, auto

PING_AFTER_S = 2.0
"""Time without a change after which the display is asked: either the page is still, or the display has
stopped."""
SILENT_S = 5.0
"""Time without an answer after which a display counts as stopped. On a busy machine it may recover."""


class DisplayEvent(Enum):
    NONE = auto()
    STOPPED = auto()
    ANSWERS = auto()


class DisplaySilence:
    """The silence of one display. Times are monotonic, in seconds."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._is_reported = False

    def heard(self, now_s: float) -> None:
        """Call it when the display has drawn or answered."""
        self._heard_s = now_s

    def is_to_be_asked(self, now_s: float) -> bool:
        return now_s - self._heard_s > PING_AFTER_S

    def look(self, asked_s: float | None, now_s: float) -> DisplayEvent:
        """Returns what to report. `asked_s`: when the unanswered request was sent; None if all requests are
        answered."""
        is_silent = asked_s is not None and now_s - asked_s > SILENT_S
        if is_silent == self._is_reported or (not is_silent and asked_s is not None):
            return DisplayEvent.NONE
        self._is_reported = is_silent
        return DisplayEvent.STOPPED if is_silent else DisplayEvent.ANSWERS
