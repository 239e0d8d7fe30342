"""The worker on the bus (EgressInternal): starts egresses, recovers them, and gives them up."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.core import info as transitions
from openegress.core import part_records
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import EndReason
from openegress.core.part import Part
from openegress.core.plan import Plan
from openegress.proto.egress_rpc_pb2 import (
    ListActiveEgressRequest,
    ListActiveEgressResponse,
    StartEgressRequest,
)
from openegress.psrpc.server import Registration, RPCServer, incoming
from openegress.psrpc.services import EgressInternal
from openegress.request import places
from openegress.request.initial_info import initial
from openegress.request.later_part import has_place, later_part
from openegress.request.live_state import as_asked
from openegress.request.request_kind import RequestKind, request_kind
from openegress.request.validate import plan_of
from openegress.store.handovers import Claimed, Handovers
from openegress.worker.admission import AdmissionLimits
from openegress.worker.adoption import BESIDE, FIRST, Adoption
from openegress.worker.capacity import Capacity
from openegress.worker.config import WorkerConfig, WorkerLeases
from openegress.worker.handler_calls import HandlerCalls
from openegress.worker.job import Job
from openegress.worker.leftovers import Leftover, kind_of
from openegress.worker.load import LoadMeter
from openegress.worker.paths import Paths
from openegress.worker.room_context import context_of
from openegress.worker.start import StartAttempt, Starter
from openegress.worker.supervisor import Supervisor
from openegress.worker.takeovers import Takeovers
from openegress.worker.worker_records import WorkerRecords

Check = Callable[[], Awaitable[str | None]]
"""Returns why a task has stopped; None: it runs."""

_log = structlog.get_logger(__name__)

_START_LIMIT_S = 25.0
"""Time limit for a start until its launch: its first lease lasts 30 s, and is not renewed before the
launch."""
_ANSWER_S = 0.5
"""Time reserved for an answer on its way back: the caller must not have turned to another worker by then."""


class WorkerService:
    """Starts the egresses that are requested and that it has capacity for. Answers for those that run
    here."""

    def __init__(
        self,
        config: WorkerConfig,
        worker_id: str,
        server: RPCServer,
        records: WorkerRecords,
        supervisor: Supervisor,
        meter: LoadMeter,
        leases: WorkerLeases,
        on_start: Callable[[], None],
    ) -> None:
        """`on_start` is called when an egress has been launched."""
        self._config = config
        self._server = server
        self._records = records
        self._supervisor = supervisor
        self._capacity = Capacity(config, meter, supervisor)
        self._paths = Paths(leases.paths, worker_id, self._is_over)
        self._calls = HandlerCalls(server, supervisor, lambda: config.context().unknown_fields)
        self._starter = Starter(config, worker_id, leases, self._paths, records, self._calls)
        self._on_start = on_start
        self._registrations: list[Registration] = []  # type: ignore[type-arg]
        self._adoption: Adoption | None = None
        self._takeovers = self._make_takeovers(leases.handovers)
        self._draining = False

    def _make_takeovers(self, handovers: Handovers | None) -> Takeovers | None:
        if handovers is None:
            return None
        return Takeovers(
            handovers,
            self._records.keeper,
            self._is_busy,
            self.refuses_part,
            self._take_over,
            self._capacity.hesitation_s,
        )

    def alive(self) -> dict[str, Check]:
        """The tasks that must run as long as it is open."""
        found = {"tenures": self._records.tenures, "takeovers": self._takeovers}
        return {name: each.stopped for name, each in found.items() if each is not None}

    async def open(self) -> None:
        """Takes requests from now on."""
        if self._records.tenures is not None:
            self._records.tenures.start()
        self._registrations = [
            await self._server.register(
                EgressInternal.START_EGRESS,
                self._start,
                self._config.cluster_id,
                affinity=self._affinity,
                hesitation_s=self._capacity.hesitation_s,
            ),
            await self._server.register(
                EgressInternal.LIST_ACTIVE_EGRESS, self._list_active, self._config.cluster_id
            ),
        ]

    def adopt(self, spool: Path, *, shared: bool = False) -> None:
        """Finishes what an earlier process of this worker left. Each egress ends as FAILED with its files.

        `shared`: a service with the same folders may run, or start later. Whatever that service has not
        reported is left to it.
        """
        if not shared:
            self._records.repeat_left()
        lookup = self._records.keeper.get
        self._adoption = Adoption(
            spool,
            lookup,
            self._supervisor,
            self._paths,
            self._is_busy,
            self._recover,
            self._go_on,
            self._is_ours,
        )
        self._adoption.start(BESIDE if shared else FIRST)
        if self._takeovers is not None:
            self._takeovers.watch_spool(spool)
            self._takeovers.start()

    @property
    def held_paths(self) -> Paths:
        """The paths that this worker holds. Clips claim theirs here too."""
        return self._paths

    def egress_ids(self) -> Collection[str]:
        """The egresses that this worker answers for: those that run here, and those that wait to be
        recovered."""
        waiting = self._adoption.waiting if self._adoption is not None else ()
        return {*waiting, *(job.plan.egress_id for job in self._supervisor)}

    def paths(self) -> Collection[str]:
        """The paths that the egresses of this worker write to."""
        return self._paths.held()

    def _is_over(self, egress_id: str) -> bool:
        job = self._supervisor.get(egress_id)
        return job is not None and transitions.is_terminal(job.record.info)

    def _is_busy(self, egress_id: str) -> bool:
        return self._is_at_work(egress_id) or self._records.is_repeating(egress_id)

    def _is_at_work(self, egress_id: str) -> bool:
        return self._capacity.is_starting(egress_id) or self._supervisor.get(egress_id) is not None

    def _recover(self, left: Leftover, text: str, is_reported: bool) -> None:
        record = self._records.of_recovery(left.plan, left.info, is_reported=is_reported)
        self._supervisor.recover(left.plan, left.kind.value, record, text, had_ended=left.had_ended)
        self._on_start()

    async def _go_on(self, left: Leftover) -> None:
        """Continues a leftover recording. Raises EgressError."""
        egress_id = left.plan.egress_id
        self._records.keeper.doubt(egress_id)
        await self._calls.open(egress_id)
        record = self._records.of_start(left.plan, left.info)
        has_begun, claim = left.has_begun or left.plan.part is None, self._starter.claim_names
        self._supervisor.go_on(left.plan, left.kind.value, record, claim, has_begun=has_begun)
        self._records.show(record.info)
        self._on_start()
        _log.warning("continuing a recording of an earlier worker", egress_id=egress_id)

    async def _is_ours(self, left: Leftover) -> bool:
        tenures = self._records.tenures
        if tenures is None or not left.plan.resumes:
            return True
        if left.may_go_on:
            return await tenures.keep(left.plan)
        return not await tenures.is_taken(left.plan)

    async def lose(self, egress_id: str) -> None:
        """Closes the topics of an egress that another worker has taken over."""
        await self._calls.close(egress_id)

    async def _take_over(self, claimed: Claimed, info: EgressInfo) -> None:
        """Records another part of an egress. Raises EgressError."""
        offer, now_ns = claimed.offer, time.time_ns()
        whole = as_asked(offer.plan, offer.live) if offer.live is not None else offer.plan
        recorded_ns = offer.live.recorded_until_ns(claimed.heard_ns) if offer.live is not None else 0
        pause = whole.on_pause if transitions.is_paused(info) else None
        part = Part(claimed.number, claimed.heard_ns, offer.restarts, recorded_ns, pause)
        storage = self._config.context().storage
        plan = later_part(whole, part, part_records.started_at_ns(info), now_ns, storage, offer.streams)
        if plan is None:
            raise _no_place()
        egress_id, kind = plan.egress_id, kind_of(plan)
        self._capacity.reserve(egress_id, kind, plan)
        try:
            if (taken := await self._paths.claim(plan)) is not None:
                raise places.taken(taken)
            await self._calls.open(egress_id)
            own = initial(StartEgressRequest(egress_id=egress_id), plan, now_ns)
            known = part_records.extended(info, own, part.lost_at_ns)
            known.updated_at = max(now_ns, info.updated_at + 1)
            record = self._records.of_start(plan, known)
            record.repeat()
            self._supervisor.take_over(plan, kind.value, record, self._starter.claim_names)
        except BaseException:
            await self._paths.release(egress_id)
            await self._calls.close(egress_id)
            raise
        finally:
            self._capacity.free(egress_id)
        self._records.show(record.info)
        self._on_start()

    async def give_up_ended(self, egress_ids: Collection[str]) -> None:
        """Stops and stores egresses that others may have ended while this worker was out of reach, because
        clients can no longer stop them. Call it after such a time. Raises EgressError if the record keeper
        does not answer."""
        jobs = {one: job for one in egress_ids if (job := self._supervisor.get(one)) is not None}
        for egress_id in jobs:
            self._records.keeper.doubt(egress_id)
        for egress_id, job in jobs.items():
            stored = await self._records.keeper.get(egress_id)
            if stored is not None and transitions.is_terminal(stored):
                _log.error("egress was ended while this worker was out of reach", egress_id=egress_id)
                job.stop(EndReason.KILLED)

    async def drain(self) -> None:
        """Takes no more requests. Returns when the last egress has ended by itself."""
        self._draining = True
        for each in (self._adoption, self._takeovers):
            if each is not None:
                await each.close()
        await self._supervisor.wait_idle()

    async def close(self) -> None:
        self._draining = True
        for registration in self._registrations:
            await registration.close()
        self._registrations.clear()
        for each in (self._adoption, self._takeovers, self._records.tenures):
            if each is not None:
                await each.close()
        for job in self._supervisor:
            job.record.stop_retrying()
        await self._records.close()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def limits(self) -> AdmissionLimits:
        return self._config.limits

    def would_admit(self, kind: RequestKind, plan: Plan | None = None) -> EgressError | None:
        """The error that refuses one more egress of this kind or, if given, this plan; None: there is
        room."""
        if self._draining:
            return EgressError(Code.UNAVAILABLE, "server is shutting down", fault=Fault.SERVICE)
        return self._capacity.refusal(kind, plan)

    def refuses_part(self, plan: Plan) -> EgressError | None:
        """Why no worker here can continue another worker's egress; None: this worker can."""
        if not has_place(plan, self._config.context().storage):
            return _no_place()
        return self.would_admit(kind_of(plan), plan)

    # --- EgressInternal

    def _kind(self, request: StartEgressRequest) -> RequestKind:
        return request_kind(request, self._config.context().template_base)

    def _affinity(self, request: StartEgressRequest) -> float | EgressError:
        if self._draining:
            return -1.0
        try:
            kind = self._kind(request)
        except EgressError:
            return 1.0  # any worker can say what is wrong with it
        try:
            plan = plan_of(request, self._config.context())
        except EgressError:
            return 1.0  # waiting for capacity would not help
        return self.would_admit(kind, plan) or 1.0

    async def _start(self, request: StartEgressRequest) -> EgressInfo:
        egress_id = request.egress_id
        if self._draining:
            raise EgressError(Code.UNAVAILABLE, "server is shutting down", fault=Fault.SERVICE)
        kind = self._kind(request)
        context, told = await context_of(request, self._config)
        if self._is_at_work(egress_id):
            raise EgressError(Code.ALREADY_EXISTS, "egress already exists")
        plan = self._capacity.suited(kind, plan_of(request, context))
        plan = msgspec.structs.replace(plan, notices=plan.notices + told)
        refusal = self.would_admit(kind, plan)
        if refusal is not None:
            raise refusal
        self._capacity.reserve(egress_id, kind, plan)
        attempt = StartAttempt(request, plan, kind, initial(request, plan, time.time_ns()), context)
        try:
            async with asyncio.timeout(_time_left_s()):
                await self._starter.prepare(attempt)
            # Nothing is awaited between this point and the launch: the caller still waits.
            return self._launch(attempt)
        except BaseException as error:
            raise await self._starter.take_back(attempt, error) from error
        finally:
            self._capacity.free(egress_id)

    async def _list_active(self, request: ListActiveEgressRequest) -> ListActiveEgressResponse:
        return ListActiveEgressResponse(egress_ids=[job.plan.egress_id for job in self._supervisor])

    def _launch(self, attempt: StartAttempt) -> EgressInfo:
        egress_id, info = attempt.plan.egress_id, attempt.info
        record = self._records.of_start(attempt.plan, info)
        self._supervisor.launch(attempt.plan, attempt.kind.value, record, self._starter.claim_names)
        self._records.show(info)
        self._on_start()
        _log.info("egress starts", egress_id=egress_id, kind=attempt.kind.value)
        for notice in attempt.plan.notices:
            _log.warning("request is not carried out as written", egress_id=egress_id, notice=notice)
        return info

    async def forget(self, job: Job) -> None:
        """Releases the paths and topics of an egress that has ended."""
        await self._paths.release(job.plan.egress_id)
        await self._calls.close(job.plan.egress_id)


def _time_left_s() -> float:
    """The time left for a start, by the expiry of its request: after that, the caller turns to another
    worker."""
    request = incoming.get(None)
    if request is None:
        return _START_LIMIT_S
    return min(_START_LIMIT_S, request.expiry_ns / 1e9 - time.time() - _ANSWER_S)


def _no_place() -> EgressError:
    return EgressError(Code.FAILED_PRECONDITION, "its storage is on the disk of another worker")
