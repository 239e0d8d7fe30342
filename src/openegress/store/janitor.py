"""Ends the egresses of workers that died, and deletes old records."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from livekit.protocol.egress import EgressInfo, EgressStatus, StreamInfo

from openegress.core.errors import Code, EgressError
from openegress.core.events import EndReason
from openegress.core.info import is_terminal
from openegress.core.tasks import BackgroundTask
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.store import Store
from openegress.store.ioinfo import IOInfoService
from openegress.store.leases import LEASE_S, Leases, Lost

_log = structlog.get_logger(__name__)

ROUND_S = 5.0
PURGE_S = 3600.0

Fetch = Callable[[str], Awaitable[EgressInfo | None]]
End = Callable[[EgressInfo], Awaitable[object]]
Active = Callable[[], Awaitable[Sequence[EgressInfo]]]
Purge = Callable[[], Awaitable[int]]


def died(info: EgressInfo, worker_id: str, silent_s: float, now_ns: int) -> EgressInfo:
    """The final record of an egress whose worker is gone. Its files are not known here: the worker adds them
    when it recovers the recording after a restart."""
    ended = EgressInfo()
    ended.CopyFrom(info)
    ended.status = EgressStatus.EGRESS_FAILED
    # The clock of the worker may have been ahead of ours.
    ended.updated_at = ended.ended_at = max(now_ns, info.updated_at + 1)
    who = f"worker {worker_id}" if worker_id else "its worker"
    ended.error = (
        f"{who} has not been heard of for {silent_s:.0f} s: its process, machine or network failed;"
        " the recording up to then is finished and stored when it returns"
    )
    ended.error_code = Code.INTERNAL.http_status
    ended.details = f"End reason: {EndReason.FAILURE}"
    for stream in (*ended.stream_results, *(ended.stream.info if ended.HasField("stream") else ())):
        if stream.status == StreamInfo.Status.ACTIVE:
            stream.status = StreamInfo.Status.FAILED
            stream.ended_at = ended.ended_at
            stream.error = "the worker that sent this stream is gone"
    return ended


class Janitor(BackgroundTask):
    """Ends lost egresses. Any number of janitors may run, in workers or servers: a lease makes sure that one
    of them handles each egress.

    After its start, and after the leases were unreachable, a janitor first waits as long as a lease lasts, as
    workers could not renew their leases meanwhile either.
    """

    def __init__(
        self,
        leases: Leases,
        janitor_id: str,
        fetch: Fetch,
        end: End,
        active: Active | None = None,
        purge: Purge | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("janitor")
        self._leases = leases
        self._janitor_id = janitor_id
        self._fetch = fetch
        self._end = end
        self._active = active
        self._purge = purge
        self._now_s = now_s
        self._hearing_since_s: float | None = None
        self._ownerless_since_s: dict[str, float] = {}
        self._settling: dict[str, Lost] = {}
        self._purged_at_s = -PURGE_S

    @classmethod
    def of_records(
        cls, leases: Leases, janitor_id: str, records: IOInfoService, store: Store, retention_s: float
    ) -> "Janitor":
        """A janitor for a server that keeps the records: active records that never had a lease are lost
        too."""

        async def active() -> Sequence[EgressInfo]:
            return await store.list(active=True)

        async def purge() -> int:
            return await store.purge(time.time_ns() - int(retention_s * 1e9))

        return cls(leases, janitor_id, store.get, records.update, active, purge if retention_s else None)

    @classmethod
    def of_worker(cls, leases: Leases, janitor_id: str, client: RPCClient) -> "Janitor":
        """A janitor for a worker behind a livekit-server, whose records may belong to other kinds of workers:
        only egresses that had a lease are lost."""
        records = IOInfoClient(client)
        return cls(leases, janitor_id, records.get, records.update)

    async def round(self) -> None:
        """Handles lost egresses once. Raises EgressError (UNAVAILABLE) if leases or records cannot be
        reached."""
        now_s = self._now_s()
        try:
            lost = [*await self._leases.lost(), *await self._ownerless(now_s)]
        except EgressError:
            self._hearing_since_s = None
            raise
        if self._hearing_since_s is None:
            self._hearing_since_s = now_s
        if now_s - self._hearing_since_s < LEASE_S:
            return
        await self._leases.hold(self._janitor_id, self._settling)
        for one in lost:
            if await self._leases.take(self._janitor_id, one.egress_id):
                self._settling[one.egress_id] = one
        for one in tuple(self._settling.values()):
            await self._settle(one)
            del self._settling[one.egress_id]
        if self._purge is not None and now_s - self._purged_at_s >= PURGE_S:
            self._purged_at_s = now_s
            if count := await self._purge():
                _log.info("old records deleted", count=count)

    async def _settle(self, lost: Lost) -> None:
        """Ends the egress. If the janitor dies meanwhile, its own lease expires and another one takes
        over."""
        info = await self._fetch(lost.egress_id)
        if info is not None and not is_terminal(info):
            ended = died(info, lost.worker_id, lost.silent_s, time.time_ns())
            _log.error("egress lost", egress_id=lost.egress_id, worker_id=lost.worker_id, error=ended.error)
            await self._end(ended)
        await self._leases.release([lost.egress_id])

    async def _ownerless(self, now_s: float) -> list[Lost]:
        """Active records that have had no lease for as long as a lease lasts."""
        if self._active is None:
            return []
        held = await self._leases.held()
        ids = [info.egress_id for info in await self._active() if info.egress_id not in held]
        self._ownerless_since_s = {one: self._ownerless_since_s.get(one, now_s) for one in ids}
        return [
            Lost(one, "", now_s - since_s)
            for one, since_s in self._ownerless_since_s.items()
            if now_s - since_s >= LEASE_S
        ]

    async def _run(self) -> None:
        away = False
        while True:
            try:
                await self.round()
                away = False
            except EgressError as error:
                if not away:
                    _log.warning("cannot end lost egresses for now", error=error.message)
                away = True
            except Exception:
                # One bad record must not keep the janitor from the others.
                _log.exception("a round of the janitor failed")
            await asyncio.sleep(ROUND_S)
