"""A worker's heartbeat: holds the leases of what runs on it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from openegress.core.errors import EgressError
from openegress.core.tasks import stopped
from openegress.store.leases import LEASE_S, Leases

_log = structlog.get_logger(__name__)

BEAT_S = LEASE_S / 5
LATE_S = 2 * BEAT_S
"""Without a beat for so long, the leases may run out before what is sent now arrives."""


class Heartbeat:
    """From start() to close(). Each beat asks what runs; wake() beats at once, for a new egress.

    `after_lapse` gets what was held, when the leases may have run out unnoticed; it may raise EgressError,
    and is asked again.
    """

    def __init__(
        self,
        leases: Leases,
        worker_id: str,
        running: Callable[[], Collection[str]],
        after_lapse: Callable[[Collection[str]], Awaitable[None]] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._worker_id = worker_id
        self._running = running
        self._after_lapse = after_lapse
        self._now_s = now_s
        self._beat_at_s = now_s()
        self._lapsed: set[str] = set()
        self._held: set[str] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    def wake(self) -> None:
        self._woken.set()

    async def beat(self) -> None:
        """Holds what runs, releases what ran. Raises EgressError (unavailable)."""
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
        """Others may take what runs here for lost, and end its records."""
        return self._now_s() - self._beat_at_s >= LATE_S

    async def close(self) -> None:
        """The last beat: releases what has ended; what still runs is let run out, and so found."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.beat()
        except EgressError as error:
            _log.warning("leases not released", error=error.message)

    async def stopped(self) -> str | None:
        """For health checks: why it does its work no more."""
        return stopped(self._task)

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
                # Without beats, others take our egresses for lost while they run.
                _log.exception("a heartbeat failed")
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._woken.wait()
            except TimeoutError:
                pass  # time for the next beat
