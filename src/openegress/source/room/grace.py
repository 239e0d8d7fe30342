"""Limits how long a recording continues after its participant has left."""

import asyncio
from collections.abc import Callable

from openegress.source.room.awaited import WaitLimits
from openegress.source.room.track_policy import LastRejoin


class GracePeriod:
    """Ends the recording some time after begin(), unless revoke() comes first.

    After a lost connection to the room, other participants may have lost theirs too, so they get longer.
    """

    def __init__(self, patience: WaitLimits, on_end: Callable[[], None]) -> None:
        self._patience = patience
        self._on_end = on_end
        self._rejoined_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def last_rejoin(self) -> LastRejoin:
        if self._rejoined_at is None:
            return LastRejoin.NEVER
        since_s = asyncio.get_running_loop().time() - self._rejoined_at
        return LastRejoin.RECENT if since_s < self._patience.rejoin_s else LastRejoin.EARLIER

    def mark_rejoin(self) -> None:
        """Call it when the connection is lost, and when it is back."""
        self._rejoined_at = asyncio.get_running_loop().time()

    def begin(self, last_rejoin: LastRejoin) -> None:
        """Starts the timer. Idempotent."""
        if self._timer is None:
            is_recent = last_rejoin is LastRejoin.RECENT
            grace_s = self._patience.rejoin_s if is_recent else self._patience.absence_s
            self._timer = asyncio.get_running_loop().call_later(grace_s, self._on_end)

    def revoke(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
