"""Ends a recording after a time without audible sound."""

import asyncio
import time
from collections.abc import Callable

from openegress.media.hearing import Hearing


class SilenceLimit:
    """Calls `on_reached` once. Runs on the event loop."""

    def __init__(self, on_reached: Callable[[], None]) -> None:
        self.hearing = Hearing()
        self._on_reached = on_reached
        self._loop = asyncio.get_running_loop()
        self._limit_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, limit_s: float) -> None:
        """Restarts the count; 0: stops it."""
        self.stop()
        self._limit_s = limit_s
        self.hearing.is_on = limit_s > 0
        if limit_s:
            self.hearing.last_s = time.monotonic()
            self._timer = self._loop.call_later(limit_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left_s = self.hearing.last_s + self._limit_s - time.monotonic()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._on_reached()
