"""Sends a worker's heartbeat, which renews the leases of its running egresses."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from openegress.core.errors import EgressError
from openegress.core.tasks import BackgroundTask
from openegress.store.leases import LEASE_S, Leases

_log = structlog.get_logger(__name__)

BEAT_S = LEASE_S / 5
LATE_S = 2 * BEAT_S
"""Time without a beat after which the leases may expire before an update that is sent now arrives."""


class Heartbeat(BackgroundTask):
    """Beats from start() to close(). `running` returns the ids of the running egresses.

    `after_lapse` gets the ids whose leases may have expired unnoticed. If it raises EgressError, it is called
    again at the next beat.
    """

    def __init__(
        self,
        leases: Leases,
        worker_id: str,
        running: Callable[[], Collection[str]],
        after_lapse: Callable[[Collection[str]], Awaitable[None]] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("heartbeat")
        self._leases = leases
        self._worker_id = worker_id
        self._running = running
        self._after_lapse = after_lapse
        self._now_s = now_s
        self._beat_at_s = now_s()
        self._lapsed: set[str] = set()
        self._held: set[str] = set()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Beats at once, for a new egress."""
        self._woken.set()

    async def beat(self) -> None:
        """Renews the leases of running egresses and releases those of ended ones. Raises EgressError
        (UNAVAILABLE)."""
        running, begun_s = set(self._running()), self._now_s()
        await self._leases.hold(self._worker_id, running)
        await self._leases.release(self._held - running)
        if self._now_s() - self._beat_at_s >= LEASE_S:
            self._lapsed |= self._held & running
        self._held, self._beat_at_s = running, begun_s
        if self._lapsed and self._after_lapse is not None:
            await self._after_lapse(self._lapsed)
        self._lapsed = set()

    def is_late(self) -> bool:
        """Whether others may consider the egresses lost, and end their records."""
        return self._now_s() - self._beat_at_s >= LATE_S

    async def close(self) -> None:
        """Beats once more, to release ended egresses. Leases of running ones expire, so that others
        notice."""
        if self._task is None:
            return
        await super().close()
        try:
            await self.beat()
        except EgressError as error:
            _log.warning("leases not released", error=error.message)

    async def _run(self) -> None:
        missed = False
        while True:
            self._woken.clear()
            try:
                await self.beat()
                missed = False
            except EgressError as error:
                if not missed:
                    _log.warning("heartbeat missed", error=error.message)
                missed = True
            except Exception:
                # Without beats, others consider our running egresses lost.
                _log.exception("a heartbeat failed")
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._woken.wait()
            except TimeoutError:
                pass  # time for the next beat
