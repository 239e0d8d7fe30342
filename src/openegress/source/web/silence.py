"""A display that neither draws nor answers: nothing new is filmed, and that is told once. Pure."""

from enum import Enum, auto

ASKED_AFTER_S = 2.0
"""After this long without a change, the page is still or its display has stopped."""
SILENT_S = 5.0
"""A display that does not answer for this long has stopped. On a busy machine it may recover."""


class DisplayNews(Enum):
    NONE = auto()
    STOPPED = auto()
    ANSWERS = auto()


class DisplaySilence:
    """Times are monotonic, in seconds."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._is_told = False

    def heard(self, now_s: float) -> None:
        """The display has drawn or answered."""
        self._heard_s = now_s

    def is_to_be_asked(self, now_s: float) -> bool:
        return now_s - self._heard_s > ASKED_AFTER_S

    def look(self, asked_s: float | None, now_s: float) -> DisplayNews:
        """`asked_s`: when the unanswered request was sent; None if all requests are answered."""
        is_silent = asked_s is not None and now_s - asked_s > SILENT_S
        if is_silent == self._is_told or (not is_silent and asked_s is not None):
            return DisplayNews.NONE
        self._is_told = is_silent
        return DisplayNews.STOPPED if is_silent else DisplayNews.ANSWERS
