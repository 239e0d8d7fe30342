"""Limits how many recordings a participant can start by publishing: each takes a part of the machine, and
somebody who keeps publishing new tracks would take all of it. Pure."""

from openegress.core.recent import Recent
from openegress.core.token_bucket import RefillRate, TokenBucket

STARTS = RefillRate(1 / 30, 20)
"""Per second, and at once. Somebody who shares a screen with its sound now and then publishes less."""
MAX_KNOWN = 10_000
"""Participants remembered; the one who published least recently is forgotten first."""


class StartBudgets:
    """The budgets of all participants in all rooms."""

    def __init__(self) -> None:
        self._budgets: Recent[tuple[str, str], TokenBucket] = Recent(MAX_KNOWN)

    def spend(self, room: str, identity: str, now_ns: int) -> bool:
        """Takes one from the budget. False: it is used up."""
        key = room, identity
        budget = self._budgets[key] = self._budgets.get(key) or TokenBucket(STARTS)
        if budget.left(now_ns) < 1:
            return False
        return budget.spend(1, now_ns)
