"""Ends a recording after the server's time limits, and those of its options."""

import asyncio
import time
from collections.abc import Callable

from openegress.core.end_rules import EndRules
from openegress.core.events import AnyEvent, EndReason, Paused, Resumed
from openegress.core.plan import Plan
from openegress.core.units import S

_LONGEST_LEAD_S = 5.0
"""From media time zero to its report, which waits for tracks in between. A longer time means that somebody
has set the clock."""
_AT_ONCE_S = 1e-3
"""Not within the call that finds a limit reached."""


class TimeLimits:
    """The time limits of one recording. Runs on the event loop. `end` may be called more than once, but not
    after close()."""

    def __init__(self, plan: Plan, end: Callable[[EndReason], None]) -> None:
        self._limits = plan.limits
        self._endings = plan.end_rules
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._session: asyncio.TimerHandle | None = None
        self._own: asyncio.TimerHandle | None = None
        """The options' limit, first on the start and then on the recorded time."""
        self._before_s = plan.part.recorded_ns / S if plan.part is not None else 0.0
        """Seconds that other parts have recorded."""
        self._recorded_s = 0.0
        """Seconds recorded before the last pause."""
        self._since_s: float | None = None
        """Loop time at which the current recording began; None: nothing is being recorded."""

    def start(self) -> None:
        """Starts the limits that apply before recording starts."""
        self._count_session()
        self._own = self._after(self._endings.start_timeout_s, EndReason.START_TIMEOUT)

    def record(self, started_at_ns: int) -> None:
        """Starts the limits of the recording, whose media time zero was at this unix time. The session limit
        restarts: it applies to the start, and then to the recording."""
        self._count_session()
        lead_s = min(_LONGEST_LEAD_S, max(0.0, (time.time_ns() - started_at_ns) / S))
        self._count_recorded(lead_s)

    def go_on(self, recorded_s: float, since_ns: int) -> None:
        """Adds the time of a recording that another handler began at this unix time. Call it after
        record()."""
        self._recorded_s += recorded_s
        self._count_session(max(0.0, (time.time_ns() - since_ns) / S))
        self.change(self._endings)

    def note(self, event: AnyEvent) -> None:
        """Takes an event of the recording. A pause stops the count of recorded time, but not that of the
        session."""
        match event:
            case Paused():
                self._count_up()
                self._since_s = None
                self._stop(self._own)
            case Resumed():
                self._count_recorded(0.0)

    def change(self, rules: EndRules) -> None:
        """Replaces the rules. Time recorded so far counts."""
        self._endings = rules
        if self._since_s is not None:
            self._count_up()
            self._count_recorded(0.0)
        elif 0 < rules.max_duration_s <= self.counted_s:
            # Nobody waits for the end of the pause to learn that it is over.
            self._own = self._after(_AT_ONCE_S, EndReason.MAX_DURATION)

    @property
    def recorded_s(self) -> float:
        """Recorded length of this part so far."""
        return self._recorded_s + (self._loop.time() - self._since_s if self._since_s is not None else 0.0)

    @property
    def counted_s(self) -> float:
        """Recorded time that counts towards max_duration."""
        return self._before_s + self.recorded_s

    @property
    def is_counting(self) -> bool:
        return self._since_s is not None

    def close(self) -> None:
        self._stop(self._session)
        self._stop(self._own)

    def _count_up(self) -> None:
        self._recorded_s = self.recorded_s

    def _count_session(self, over_s: float = 0.0) -> None:
        self._stop(self._session)
        limit_s = self._limits.duration_s
        self._session = self._after(limit_s and max(_AT_ONCE_S, limit_s - over_s), EndReason.LIMIT)

    def _count_recorded(self, lead_s: float) -> None:
        self._stop(self._own)
        self._since_s = self._loop.time() - lead_s
        if limit_s := self._endings.max_duration_s:
            left_s = max(_AT_ONCE_S, limit_s - self._before_s - self._recorded_s - lead_s)
            self._own = self._after(left_s, EndReason.MAX_DURATION)

    def _after(self, limit_s: float, reason: EndReason) -> asyncio.TimerHandle | None:
        return self._loop.call_later(limit_s, self._end, reason) if limit_s else None

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
