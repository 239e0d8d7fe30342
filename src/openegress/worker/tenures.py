"""Keeps the tenures of egresses that this worker records and that another worker continues if this one is
lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.core.errors import Code, EgressError
from openegress.core.info import is_terminal
from openegress.core.live_state import LiveState
from openegress.core.live_streams import LiveStreams
from openegress.core.plan import Plan
from openegress.core.tasks import BackgroundTask
from openegress.core.units import S
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.services import EgressHandler
from openegress.store.handovers import TENURE_S, HandoverOffer, Handovers, Holding
from openegress.worker.job import Job
from openegress.worker.supervisor import Supervisor

_log = structlog.get_logger(__name__)

BEAT_S = 1.5
SURE_S = TENURE_S - 2 * BEAT_S
"""Time after a beat in which no other worker can have an egress. It leaves time for messages to arrive."""
_NO_HOLDER_CODES = frozenset({Code.UNAVAILABLE, Code.NOT_FOUND, Code.FAILED_PRECONDITION})


@dataclass(slots=True)
class _Held:
    job: Job
    number: int
    is_begun: bool
    """Whether the offer says when this part began."""
    live: LiveState | None
    """The live state in the offer."""
    streams: LiveStreams
    """Those of this part in the offer."""
    beat_at_s: float


class Tenures(BackgroundTask):
    """Renews tenures from start() to close(). After that, the tenures of what still runs expire, so that
    other workers notice."""

    def __init__(
        self,
        handovers: Handovers,
        supervisor: Supervisor,
        keeper: IOInfoClient,
        client: RPCClient,
        on_lost: Callable[[str], Awaitable[None]],
    ) -> None:
        """`on_lost` gets the id of an egress that another worker has taken over."""
        super().__init__("tenures")
        self._handovers = handovers
        self._supervisor = supervisor
        self._keeper = keeper
        self._client = client
        self._on_lost = on_lost
        self._held: dict[str, _Held] = {}
        self._offers: dict[str, HandoverOffer] = {}
        """Offers of egresses that run here, as they were when this worker began to record them."""

    async def beat(self) -> None:
        """Reports what is recorded here, and learns what other workers have taken over. Raises EgressError
        (unavailable)."""
        # This comes first: the tenure of one egress must not depend on the fate of another.
        await self._renew()
        going_on = {job.plan.egress_id: job for job in self._supervisor if job.goes_on}
        for egress_id, held in list(self._held.items()):
            if going_on.get(egress_id) is not held.job:
                del self._held[egress_id]
                if self._supervisor.get(egress_id) is not held.job:
                    self._offers.pop(egress_id, None)
                if not held.job.is_left and not await self._handovers.release(egress_id, held.number):
                    await self._lose(egress_id, held.job)
        for egress_id, job in going_on.items():
            held_now = self._held.get(egress_id)
            if held_now is None or not _is_reported(held_now):
                await self._offer(job)

    async def _renew(self) -> None:
        begun_s = time.monotonic()
        said = await self._handovers.beat({one: held.number for one, held in self._held.items()})
        for egress_id, is_ours in said.items():
            held = self._held[egress_id]
            if is_ours is None:
                await self._offer(held.job)
            elif is_ours:
                held.beat_at_s = begun_s
            else:
                del self._held[egress_id]
                await self._lose(egress_id, held.job)

    async def send(self, info: EgressInfo) -> None:
        """Reports to the record keeper. If another worker has taken the egress over, reports only the result
        of this part. Raises EgressError; call it again to retry."""
        egress_id = info.egress_id
        held = self._held.get(egress_id)
        if held is not None and time.monotonic() - held.beat_at_s < SURE_S:
            await self._keeper.update(info)
            return
        job = self._supervisor.get(egress_id)
        number = number_of(job) if job is not None else None
        standing = await self._handovers.standing(egress_id, number)
        if standing is Holding.OURS:
            await self._keeper.update(info)
        elif is_terminal(info):
            await self._add_part(info)

    async def _add_part(self, info: EgressInfo) -> None:
        """Reports a part to the worker that has the egress, because that worker's later reports count; to the
        record keeper once the egress has ended. Raises EgressError."""
        try:
            await self._client.call(EgressHandler.ADD_PART, info, topic=info.egress_id)
        except EgressError as error:
            if error.code not in _NO_HOLDER_CODES:
                raise
            await self._keeper.add_part(info)

    async def keep(self, plan: Plan) -> bool:
        """Keeps the tenure of a recording that this worker is about to continue after its earlier process.
        Returns False if another worker has taken it over. Raises EgressError (unavailable)."""
        offer = await self._whole(plan)
        number = plan.part.number if plan.part is not None else 0
        if offer is None:
            return await self._handovers.standing(plan.egress_id, number) is Holding.OURS
        return await self._handovers.offer(offer, number)

    async def is_taken(self, plan: Plan) -> bool:
        """Whether another worker has continued the recording of this one. Raises EgressError
        (unavailable)."""
        number = plan.part.number if plan.part is not None else 0
        return await self._handovers.standing(plan.egress_id, number) is not Holding.OURS

    async def _whole(self, plan: Plan) -> HandoverOffer | None:
        """The offer with the whole plan; None: this is a later part of an egress whose whole plan is lost."""
        known = self._offers.get(plan.egress_id) or await self._handovers.look(plan.egress_id)
        if known is None and plan.part is None:
            known = HandoverOffer(plan)
        if known is not None:
            self._offers[plan.egress_id] = known
        return known

    async def _offer(self, job: Job) -> None:
        egress_id, number, now_s = job.plan.egress_id, number_of(job), time.monotonic()
        offer = await self._whole(job.plan)
        if offer is None:
            return
        part, is_begun, live, streams = job.plan.part, job.active_s is not None, job.live, job.streams
        offer = msgspec.structs.replace(offer, streams=offer.streams.changed(streams))
        if live is not None:
            offer = msgspec.structs.replace(offer, live=live)
        if part is not None and job.active_s is not None:
            began_at_ns = time.time_ns() - int((now_s - job.active_s) * S)
            offer = msgspec.structs.replace(offer, restarts=part.restarts_until(began_at_ns))
        if await self._handovers.offer(offer, number):
            self._held[egress_id] = _Held(job, number, is_begun, live, streams, now_s)
        else:
            self._held.pop(egress_id, None)
            await self._lose(egress_id, job)

    async def _lose(self, egress_id: str, job: Job) -> None:
        _log.error("another worker has taken over an egress: its part here ends", egress_id=egress_id)
        self._offers.pop(egress_id, None)  # if it comes back to this worker, others have added to it
        job.lose()
        await self._on_lost(egress_id)

    async def _run(self) -> None:
        missed = False
        while True:
            try:
                await self.beat()
                missed = False
            except EgressError as error:
                if not missed:
                    _log.warning(
                        "other workers may take over the recordings of this one", error=error.message
                    )
                missed = True
            except Exception:
                _log.exception("a beat of tenures failed")
            await asyncio.sleep(BEAT_S)


def _is_reported(held: _Held) -> bool:
    """The offer has everything that is known here."""
    is_begun = held.job.active_s is not None
    return held.is_begun == is_begun and held.live is held.job.live and held.streams is held.job.streams


def number_of(job: Job) -> int:
    return job.plan.part.number if job.plan.part is not None else 0
