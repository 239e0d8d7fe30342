"""How long a recording goes on after the participant it records has left."""

import asyncio
from collections.abc import Callable

from openegress.source.room.awaited import Patience


class Grace:
    """Ends the recording unless it is revoked in time.

    After the connection to the room was lost, others may still be on their way back, so they get longer.
    """

    def __init__(self, patience: Patience, on_end: Callable[[], None]) -> None:
        self._patience = patience
        self._on_end = on_end
        self._rejoined_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rejoined(self) -> bool:
        """The connection was lost before."""
        return self._rejoined_at is not None

    @property
    def rejoined_recently(self) -> bool:
        if self._rejoined_at is None:
            return False
        return asyncio.get_running_loop().time() - self._rejoined_at < self._patience.rejoin_s

    def mark_rejoin(self) -> None:
        """The connection was lost, or is back."""
        self._rejoined_at = asyncio.get_running_loop().time()

    def begin(self, *, rejoined_recently: bool) -> None:
        """Idempotent."""
        if self._timer is None:
            grace_s = self._patience.rejoin_s if rejoined_recently else self._patience.absence_s
            self._timer = asyncio.get_running_loop().call_later(grace_s, self._on_end)

    def revoke(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
