"""A display that neither draws nor answers: nothing new is filmed, and that is told once. Pure."""

from enum import Enum, auto

ASKED_AFTER_S = 2.0
"""A page that draws nothing for so long is as good as still, or its display has stopped."""
SILENT_S = 5.0
"""Without an answer for longer, the display has stopped. On a busy machine it may go on."""


class DisplayNews(Enum):
    NONE = auto()
    STOPPED = auto()
    ANSWERS = auto()


class DisplaySilence:
    """Seconds are of a clock that never goes back."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._is_told = False

    def heard(self, now_s: float) -> None:
        """The display has drawn or answered."""
        self._heard_s = now_s

    def is_to_be_asked(self, now_s: float) -> bool:
        return now_s - self._heard_s > ASKED_AFTER_S

    def look(self, asked_s: float | None, now_s: float) -> DisplayNews:
        """`asked_s`: when it was asked for what it has not answered."""
        is_silent = asked_s is not None and now_s - asked_s > SILENT_S
        if is_silent == self._is_told or (not is_silent and asked_s is not None):
            return DisplayNews.NONE
        self._is_told = is_silent
        return DisplayNews.STOPPED if is_silent else DisplayNews.ANSWERS
