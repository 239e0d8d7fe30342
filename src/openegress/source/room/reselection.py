"""Decides when a recording selects its tracks again: at once, after more changes, or at a given time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from openegress.core.errors import EgressError
from openegress.core.tasks import cancelled
from openegress.core.token_bucket import TokenBucket
from openegress.room.budget import CHANGES


class Reselection:
    """Limits how often the tracks of a room with constant changes are selected again."""

    def __init__(
        self, select: Callable[[], Awaitable[None]], on_error: Callable[[EgressError], None]
    ) -> None:
        """`on_error` gets exceptions of `select` that nobody awaits."""
        self._select = select
        self._on_error = on_error
        self._changes = TokenBucket(CHANGES)
        self._deferred: asyncio.TimerHandle | None = None
        """Set while changes wait to be handled together."""
        self._recheck: asyncio.TimerHandle | None = None
        self._selecting: asyncio.Task[None] | None = None

    async def change(self) -> None:
        """Call it when something has changed in the room. Selects now, or soon together with other changes.
        Raises the exceptions of `select`."""
        now_ns = time.monotonic_ns()
        if self._deferred is not None:
            return
        if self._changes.left(now_ns) >= 1:
            self._changes.spend(1, now_ns)
            await self._select()
        else:
            self._defer()

    def at(self, at_s: float | None) -> None:
        """Selects at that loop time, even if nothing has happened. Replaces the previous time."""
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        if at_s is not None:
            self._recheck = asyncio.get_running_loop().call_at(at_s, self._begin)

    async def close(self) -> None:
        for timer in (self._deferred, self._recheck):
            if timer is not None:
                timer.cancel()
        selecting, self._selecting = self._selecting, None
        await cancelled(selecting)

    def _defer(self) -> None:
        self._deferred = asyncio.get_running_loop().call_later(1 / CHANGES.per_s, self._end_deferral)

    def _end_deferral(self) -> None:
        self._deferred = None
        if self._selecting is not None and not self._selecting.done():
            self._defer()
        else:
            self._begin()

    def _begin(self) -> None:
        if self._selecting is None or self._selecting.done():
            self._selecting = asyncio.create_task(self._select_anew(), name="room recheck")

    async def _select_anew(self) -> None:
        try:
            await self._select()
        except EgressError as error:
            self._on_error(error)
