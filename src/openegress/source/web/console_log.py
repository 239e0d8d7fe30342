"""Logs a page's console."""

import time

from openegress.source import Notice

LINES_A_MINUTE = 300
"""Limit for a page's console in the log: a tenth of a megabyte."""


class ConsoleLog:
    """Logs a limited number of lines a minute, then how many were dropped."""

    def __init__(self) -> None:
        self._minute = -1
        self._count = 0

    def notice(self, level: str, text: str) -> Notice | None:
        minute = int(time.monotonic() // 60)
        left_out = max(0, self._count - LINES_A_MINUTE) if minute != self._minute else 0
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count > LINES_A_MINUTE:
            return None
        if left_out:
            return Notice("page console", {"level": level, "text": text, "left_out": left_out})
        return Notice("page console", {"level": level, "text": text})
