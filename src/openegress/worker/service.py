"""The worker on the bus: EgressInternal for starting, EgressHandler for each egress that runs here."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from livekit.protocol.egress import EgressInfo, StopEgressRequest, UpdateStreamRequest

from openegress.core import info as transitions
from openegress.core import stream_urls
from openegress.core.context import Context
from openegress.core.errors import Code, EgressError, Fault, Phase
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
from openegress.psrpc.server import Registration, RPCServer, incoming
from openegress.psrpc.services import EgressHandler, EgressInternal
from openegress.store.leases import Leases
from openegress.worker.admission import Cost, Limits, Load, Reserved, admit, hesitation_s
from openegress.worker.adoption import BESIDE, FIRST, Adoption
from openegress.worker.job import Job
from openegress.worker.leftovers import Leftover
from openegress.worker.load import LoadMeter
from openegress.worker.preflight import check_storage
from openegress.worker.records import Record
from openegress.worker.supervisor import Supervisor
from openegress.worker.unreported import Unreported

_log = structlog.get_logger(__name__)

_SETTLING_S = 8.0
"""How long a new egress counts with its full cost on top of the measured load."""

_START_LIMIT_S = 25.0
"""For a start until its launch: the lease it begins with lasts 30 s, and is not renewed before."""
_ANSWER_S = 0.5
"""For an answer on its way back: who asked must not have turned to another worker by then."""


@dataclass(slots=True)
class _Attempt:
    """A start on its way to the launch."""

    plan: Plan
    kind: RequestKind
    info: EgressInfo
    has_lease: bool = False
    may_be_on_record: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker goes by."""

    context: Callable[[], Context]
    """What the server adds to a request, as of now."""
    costs: Mapping[RequestKind, Cost]
    limits: Limits = field(default_factory=Limits)
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
        leases: Leases,
        worker_id: str,
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
        self._leases = leases
        self._worker_id = worker_id
        self._on_start = on_start
        self._on_info = on_info
        self._registrations: list[Registration] = []  # type: ignore[type-arg]
        self._topics: dict[str, list[Registration]] = {}  # type: ignore[type-arg]
        self._starting: dict[str, RequestKind] = {}
        self._adoption: Adoption | None = None
        self._repeating: list[Record] = []
        self._draining = False

    async def open(self) -> None:
        """Takes requests from here on."""
        self._registrations = [
            await self._server.register(
                EgressInternal.START_EGRESS,
                self._start,
                self._terms.cluster_id,
                affinity=self._affinity,
                hesitation_s=lambda: hesitation_s(self._load(), self._reserved(), len(self._kinds())),
            ),
            await self._server.register(
                EgressInternal.LIST_ACTIVE_EGRESS, self._list_active, self._terms.cluster_id
            ),
        ]

    def adopt(self, spool: Path, *, shared: bool = False) -> None:
        """Finishes what an earlier life of this worker left; each ends as a FAILED egress with its files.

        `shared`: a service with the same folders may run, or be started later. What it has not reported is
        left to it.
        """
        for info in () if shared else self._unreported.all():
            self._records.doubt(info.egress_id)
            record = self._record(info)
            record.repeat()
            self._repeating.append(record)
        self._adoption = Adoption(spool, self._records.get, self._supervisor, self._is_busy, self._recover)
        self._adoption.start(BESIDE if shared else FIRST)

    def egress_ids(self) -> Collection[str]:
        """What this worker answers for: what runs here, and what waits to be recovered."""
        waiting = self._adoption.waiting if self._adoption is not None else ()
        return {*waiting, *(job.plan.egress_id for job in self._supervisor)}

    def _is_busy(self, egress_id: str) -> bool:
        at_work = egress_id in self._starting or self._supervisor.get(egress_id) is not None
        return at_work or self._unreported.keeps(egress_id)

    def _recover(self, left: Leftover, text: str, is_reported: bool) -> None:
        # Another worker may be ending it at this moment.
        self._records.doubt(left.plan.egress_id)
        send = self._records.update if is_reported else _to_nobody
        record = Record(left.info, send, self._unreported, self._on_info)
        self._supervisor.recover(left.plan, left.kind.value, record, text, had_ended=left.had_ended)
        self._on_start()

    async def give_up_ended(self, egress_ids: Collection[str]) -> None:
        """After this worker was out of reach: others may have ended these, and clients cannot stop them any
        more. They are stopped and stored. Raises EgressError when nobody can say."""
        jobs = {one: job for one in egress_ids if (job := self._supervisor.get(one)) is not None}
        for egress_id in jobs:
            self._records.doubt(egress_id)
        for egress_id, job in jobs.items():
            stored = await self._records.get(egress_id)
            if stored is not None and transitions.is_terminal(stored):
                _log.error("egress was ended while this worker was out of reach", egress_id=egress_id)
                job.stop(EndReason.KILLED)

    async def drain(self) -> None:
        """Takes no further request; returns when the last egress has ended by itself."""
        self._draining = True
        if self._adoption is not None:
            await self._adoption.close()
        await self._supervisor.wait_idle()

    async def close(self) -> None:
        self._draining = True
        for registration in self._registrations:
            await registration.close()
        self._registrations.clear()
        if self._adoption is not None:
            await self._adoption.close()
        for job in self._supervisor:
            job.record.hurry()
        for record in self._repeating:
            record.hurry()
        await asyncio.gather(*(record.close() for record in self._repeating))
        self._repeating.clear()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def limits(self) -> Limits:
        return self._terms.limits

    def would_admit(self, kind: RequestKind) -> EgressError | None:
        """None: there is room for one more of this kind."""
        if self._draining:
            return EgressError(Code.UNAVAILABLE, "server is shutting down", fault=Fault.SERVICE)
        limit = self._terms.max_browsers
        browsers = sum(running.needs_browser for running in self._kinds())
        if limit and kind.needs_browser and browsers >= limit:
            return EgressError(
                Code.RESOURCE_EXHAUSTED,
                f"{browsers} browsers are running here, and max_concurrent_web is {limit}",
                fault=Fault.SERVICE,
            )
        return admit(
            kind.value,
            self._terms.costs[kind],
            self._load(),
            self._reserved(),
            len(self._kinds()),
            self._terms.limits,
        )

    # --- EgressInternal

    def _kind(self, request: StartEgressRequest) -> RequestKind:
        return request_kind(request, self._terms.context().template_base)

    def _affinity(self, request: StartEgressRequest) -> float | EgressError:
        if self._draining:
            return -1.0
        try:
            kind = self._kind(request)
        except EgressError:
            return 1.0  # any worker can say what is wrong with it
        refusal = self.would_admit(kind)
        if refusal is None:
            return 1.0
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
        kind = self._kind(request)
        plan = plan_of(request, self._terms.context())
        refusal = self.would_admit(kind)
        if refusal is not None:
            raise refusal
        self._starting[egress_id] = kind
        attempt = _Attempt(plan, kind, transitions.initial(request, plan, time.time_ns()))
        try:
            async with asyncio.timeout(_time_left_s()):
                await self._prepare(attempt)
            # Nothing is awaited between the end of that time and the launch: who asked still waits.
            return self._launch(attempt)
        except BaseException as error:
            raise await self._undone(attempt, error) from error
        finally:
            del self._starting[egress_id]

    async def _list_active(self, request: ListActiveEgressRequest) -> ListActiveEgressResponse:
        return ListActiveEgressResponse(egress_ids=[job.plan.egress_id for job in self._supervisor])

    async def _prepare(self, attempt: _Attempt) -> None:
        """All that may fail or take long. The record comes last: only a crash leaves one without a job."""
        egress_id = attempt.plan.egress_id
        if not await self._leases.take(self._worker_id, egress_id):
            # Asked twice, as the first answer did not come in time: the other worker is at it.
            raise EgressError(Code.ALREADY_EXISTS, "egress already exists")
        attempt.has_lease = True
        await check_storage(attempt.plan)
        topics = self._topics.setdefault(egress_id, [])
        topics.append(await self._server.register(EgressHandler.STOP_EGRESS, self._stop, egress_id))
        topics.append(
            await self._server.register(EgressHandler.UPDATE_STREAM, self._update_stream, egress_id)
        )
        attempt.may_be_on_record = True
        await self._records.create(attempt.info)

    def _launch(self, attempt: _Attempt) -> EgressInfo:
        egress_id, info = attempt.plan.egress_id, attempt.info
        self._supervisor.launch(attempt.plan, attempt.kind.value, self._record(info))
        if self._on_info is not None:
            self._on_info(info)
        self._on_start()
        _log.info("egress starts", egress_id=egress_id, kind=attempt.kind.value)
        return info

    async def _undone(self, attempt: _Attempt, error: BaseException) -> BaseException:
        """Takes a start back that came to nothing; returns what to say of it."""
        egress_id = attempt.plan.egress_id
        await self._silence(egress_id)
        refused = isinstance(error, EgressError) and error.code is not Code.DEADLINE_EXCEEDED
        if attempt.may_be_on_record and not refused:
            # Its lease is left to run out: an egress that has failed must not be started by a second call.
            text = f"{Phase.ADMISSION}: the record keeper did not answer in time: the start was given up"
            self._records.doubt(egress_id)
            record = self._record(transitions.ended_by_crash(attempt.info, text, time.time_ns()))
            self._unreported.keep(record.info)
            record.repeat()
            self._repeating.append(record)
            failed = EgressError(Code.INTERNAL, text, fault=Fault.SERVICE)  # a code that is not asked again
            return failed if isinstance(error, TimeoutError | EgressError) else error
        if attempt.has_lease:
            try:
                await self._leases.release([egress_id])
            except EgressError as away:
                _log.warning("a lease is left to run out", egress_id=egress_id, error=away.text)
        if isinstance(error, TimeoutError):
            return EgressError(
                Code.DEADLINE_EXCEEDED,
                "storage, bus and leases did not answer in time: nothing was started",
                fault=Fault.SERVICE,
                phase=Phase.ADMISSION,
            )
        return error

    async def forget(self, job: Job) -> None:
        """An egress has ended: nobody asks for it here any more."""
        await self._silence(job.plan.egress_id)

    async def _silence(self, egress_id: str) -> None:
        for registration in self._topics.pop(egress_id, ()):
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


async def _to_nobody(info: EgressInfo) -> None:
    pass


def _time_left_s() -> float:
    """For a start, by the expiry of its request: who asked turns to another worker after that."""
    request = incoming.get(None)
    if request is None:
        return _START_LIMIT_S
    return min(_START_LIMIT_S, request.expiry_ns / 1e9 - time.time() - _ANSWER_S)
