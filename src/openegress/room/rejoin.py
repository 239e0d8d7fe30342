"""Decides when to join a room again after its connection was lost, and when to give up. Pure."""

from openegress.core.errors import Code, EgressError

REJOIN_FOR_S = 120.0
"""Time before giving up: a server that is replaced is back within a minute or two."""
REJOIN_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Pauses between attempts; the last one repeats."""


class Rejoin:
    """Handles one loss of the connection, until the next join. Times are those of the event loop."""

    def __init__(self, lost_at_s: float, limit_s: float) -> None:
        """`limit_s`: gives up after this time."""
        self._lost_at_s = lost_at_s
        self._limit_s = limit_s
        self.tries = 0

    def next_pause_s(self) -> float:
        """How long to wait before the next attempt; counts the attempt."""
        pause_s = REJOIN_PAUSES_S[min(self.tries, len(REJOIN_PAUSES_S) - 1)]
        self.tries += 1
        return pause_s

    def gives_up(self, error: EgressError, now_s: float) -> bool:
        """Whether to give up after a failed attempt: a token that was refused once stays refused."""
        return error.code is Code.UNAUTHENTICATED or self.after_s(now_s) > self._limit_s

    def after_s(self, now_s: float) -> float:
        return now_s - self._lost_at_s
