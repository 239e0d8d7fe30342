"""The worker on the bus: EgressInternal for starting, EgressHandler for each egress that runs here."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from livekit.protocol.egress import EgressInfo, StopEgressRequest, UpdateStreamRequest

from openegress.core import info as transitions
from openegress.core import stream_urls
from openegress.core.context import Context
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import EndReason
from openegress.core.plan import Plan, StreamOutput
from openegress.core.request_kind import RequestKind, request_kind
from openegress.core.validate import plan_of
from openegress.proto.egress_rpc_pb2 import (
    ListActiveEgressRequest,
    ListActiveEgressResponse,
    StartEgressRequest,
)
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.server import Registration, RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal
from openegress.worker.admission import Cost, Load, Reserved, admit, affinity
from openegress.worker.job import Job
from openegress.worker.leftovers import WHY, find_leftovers, leftover
from openegress.worker.load import LoadMeter
from openegress.worker.preflight import check_storage
from openegress.worker.records import Record
from openegress.worker.supervisor import Supervisor
from openegress.worker.unreported import Unreported

_log = structlog.get_logger(__name__)

_SETTLING_S = 8.0
"""How long a new egress counts with its full cost on top of the measured load."""
_WITHOUT_BROWSER = frozenset(
    {
        RequestKind.AUDIO_ROOM_COMPOSITE,
        RequestKind.PARTICIPANT,
        RequestKind.TRACK_COMPOSITE,
        RequestKind.TRACK,
    }
)

Topic = tuple[Registration[StopEgressRequest, EgressInfo], Registration[UpdateStreamRequest, EgressInfo]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker goes by."""

    context: Callable[[], Context]
    """What the server adds to a request, as of now."""
    costs: Mapping[RequestKind, Cost]
    max_browsers: int = 0
    """0: as many as there is room for."""
    cluster_id: str = ""


class WorkerService:
    """Starts egresses that it is asked for and has room for; answers for those that run here."""

    def __init__(
        self,
        terms: Terms,
        server: RPCServer,
        records: IOInfoClient,
        unreported: Unreported,
        supervisor: Supervisor,
        meter: LoadMeter,
        on_start: Callable[[], None],
        on_info: Callable[[EgressInfo], None] | None = None,
    ) -> None:
        """`on_start` is called when an egress has been launched, `on_info` with each change of a record."""
        self._terms = terms
        self._server = server
        self._records = records
        self._unreported = unreported
        self._supervisor = supervisor
        self._meter = meter
        self._on_start = on_start
        self._on_info = on_info
        self._registrations: list[Registration] = []  # type: ignore[type-arg]
        self._topics: dict[str, Topic] = {}
        self._starting: dict[str, RequestKind] = {}
        self._adopting: asyncio.Task[None] | None = None
        self._repeating: list[Record] = []
        self._draining = False

    async def open(self) -> None:
        """Takes requests from here on."""
        self._registrations = [
            await self._server.register(
                EgressInternal.START_EGRESS, self._start, self._terms.cluster_id, affinity=self._affinity
            ),
            await self._server.register(
                EgressInternal.LIST_ACTIVE_EGRESS, self._list_active, self._terms.cluster_id
            ),
        ]

    def adopt(self, spool: Path) -> None:
        """Finishes what an earlier life of this worker left; each ends as a FAILED egress with its files."""
        for info in self._unreported.all():
            self._records.doubt(info.egress_id)
            record = self._record(info)
            record.repeat()
            self._repeating.append(record)
        self._adopting = asyncio.create_task(self._adopt(spool), name="adopt")

    async def _adopt(self, spool: Path) -> None:
        known = {record.info.egress_id for record in self._repeating}
        for plan in await find_leftovers(spool):
            if plan.egress_id in known or self._supervisor.get(plan.egress_id) is not None:
                continue
            left = await leftover(plan, self._records.get)
            # Another worker may be ending it at this moment.
            self._records.doubt(plan.egress_id)
            self._supervisor.recover(plan, left.kind.value, self._record(left.info), WHY)
            self._on_start()

    async def give_up_ended(self, egress_ids: Collection[str]) -> None:
        """After this worker was out of reach: others may have ended these, and clients cannot stop them any
        more. They are stopped and stored. Raises EgressError when nobody can say."""
        for egress_id in egress_ids:
            job = self._supervisor.get(egress_id)
            if job is None:
                continue
            self._records.doubt(egress_id)
            stored = await self._records.get(egress_id)
            if stored is not None and transitions.is_terminal(stored):
                _log.error("egress was ended while this worker was out of reach", egress_id=egress_id)
                job.stop(EndReason.KILLED)

    async def drain(self) -> None:
        """Takes no further request; returns when the last egress has ended by itself."""
        self._draining = True
        await self._supervisor.wait_idle()

    async def close(self) -> None:
        self._draining = True
        for registration in self._registrations:
            await registration.close()
        self._registrations.clear()
        if self._adopting is not None:
            self._adopting.cancel()
            await asyncio.gather(self._adopting, return_exceptions=True)
        for job in self._supervisor:
            job.record.hurry()
        for record in self._repeating:
            record.hurry()
        await asyncio.gather(*(record.close() for record in self._repeating))
        self._repeating.clear()

    @property
    def draining(self) -> bool:
        return self._draining

    def would_admit(self, kind: RequestKind) -> EgressError | None:
        """None: there is room for one more of this kind."""
        if self._draining:
            return EgressError(Code.UNAVAILABLE, "server is shutting down", fault=Fault.SERVICE)
        limit = self._terms.max_browsers
        browsers = [job for job in self._kinds() if job not in _WITHOUT_BROWSER]
        if limit and kind not in _WITHOUT_BROWSER and len(browsers) >= limit:
            return EgressError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(browsers)} browsers are running here, and max_concurrent_web is {limit}",
                fault=Fault.SERVICE,
            )
        return admit(kind.value, self._terms.costs[kind], self._load(), self._reserved(), len(self._kinds()))

    # --- EgressInternal

    def _affinity(self, request: StartEgressRequest) -> float | EgressError:
        if self._draining:
            return -1.0
        try:
            kind = request_kind(request)
        except EgressError:
            return 1.0  # any worker can say what is wrong with it
        refusal = self.would_admit(kind)
        if refusal is None:
            return affinity(self._load(), self._reserved(), len(self._kinds()))
        try:
            plan_of(request, self._terms.context())
        except EgressError:
            return 1.0  # waiting for room would not help it
        return refusal

    async def _start(self, request: StartEgressRequest) -> EgressInfo:
        egress_id = request.egress_id
        if self._draining:
            raise EgressError(Code.UNAVAILABLE, "server is shutting down", fault=Fault.SERVICE)
        if egress_id in self._starting or self._supervisor.get(egress_id) is not None:
            raise EgressError(Code.ALREADY_EXISTS, "egress already exists")
        kind = request_kind(request)
        plan = plan_of(request, self._terms.context())
        refusal = self.would_admit(kind)
        if refusal is not None:
            raise refusal
        self._starting[egress_id] = kind
        try:
            await check_storage(plan)
            info = transitions.initial(request, plan, time.time_ns())
            await self._records.create(info)
            return await self._launch(plan, kind, info)
        finally:
            del self._starting[egress_id]

    async def _list_active(self, request: ListActiveEgressRequest) -> ListActiveEgressResponse:
        return ListActiveEgressResponse(egress_ids=[job.plan.egress_id for job in self._supervisor])

    async def _launch(self, plan: Plan, kind: RequestKind, info: EgressInfo) -> EgressInfo:
        egress_id = plan.egress_id
        self._topics[egress_id] = (
            await self._server.register(EgressHandler.STOP_EGRESS, self._stop, egress_id),
            await self._server.register(EgressHandler.UPDATE_STREAM, self._update_stream, egress_id),
        )
        self._supervisor.launch(plan, kind.value, self._record(info))
        if self._on_info is not None:
            self._on_info(info)
        self._on_start()
        _log.info("egress starts", egress_id=egress_id, kind=kind.value)
        return info

    async def forget(self, job: Job) -> None:
        """An egress has ended: nobody asks for it here any more."""
        for registration in self._topics.pop(job.plan.egress_id, ()):
            await registration.close()

    def _record(self, info: EgressInfo) -> Record:
        return Record(info, self._records.update, self._unreported, self._on_info)

    # --- EgressHandler

    async def _stop(self, request: StopEgressRequest) -> EgressInfo:
        job = self._job(request.egress_id)
        job.stop(EndReason.API)
        return job.record.info

    async def _update_stream(self, request: UpdateStreamRequest) -> EgressInfo:
        job = self._job(request.egress_id)
        output = next((o for o in job.plan.outputs if isinstance(o, StreamOutput)), None)
        if output is None:
            raise EgressError(Code.INVALID_ARGUMENT, "UpdateStream called on non-streaming egress")
        kind = stream_urls.StreamKind(output.protocol)
        errors: list[EgressError] = []
        add = []
        asked = [(url, "") for url in request.add_output_urls]
        asked += [(destination.url, destination.id) for destination in request.add_destinations]
        for url, stream_id in asked:
            try:
                add.append(stream_urls.target(url, kind, stream_id))
            except EgressError as error:
                errors.append(error)
        try:
            await job.update_streams(tuple(add), tuple(request.remove_output_urls))
        except EgressError as error:
            errors.append(error)
        if errors:
            raise EgressError(errors[0].code, "\n".join(error.message for error in errors))
        return job.record.info

    def _job(self, egress_id: str) -> Job:
        job = self._supervisor.get(egress_id)
        if job is None:
            raise EgressError(Code.NOT_FOUND, "egress not found")
        return job

    # --- load

    def _load(self) -> Load:
        return self._meter.sample()

    def _running(self) -> list[Job]:
        """An egress that is over makes room, though its process is still cleaning up."""
        return [job for job in self._supervisor if not transitions.is_terminal(job.record.info)]

    def _kinds(self) -> list[RequestKind]:
        return [RequestKind(job.kind) for job in self._running()] + list(self._starting.values())

    def _reserved(self) -> Reserved:
        now_s = time.monotonic()
        young = [RequestKind(j.kind) for j in self._running() if now_s - j.started_s < _SETTLING_S]
        costs = [self._terms.costs[kind] for kind in (*young, *self._starting.values())]
        return Reserved(sum(cost.cores for cost in costs), sum(cost.memory_bytes for cost in costs))
