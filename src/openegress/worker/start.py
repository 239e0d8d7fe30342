"""Prepares a start before its launch: leases, paths, storage, topics, a record."""

import time
from dataclasses import dataclass, replace

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.core import info as transitions
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.ipc import ClaimNames
from openegress.core.plan import Plan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import places
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.naming import Distinct
from openegress.request.request_kind import RequestKind
from openegress.request.validate import plan_of
from openegress.worker.config import WorkerConfig, WorkerLeases
from openegress.worker.handler_calls import HandlerCalls
from openegress.worker.paths import Paths
from openegress.worker.preflight import check_storage
from openegress.worker.worker_records import WorkerRecords

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class StartAttempt:
    """A start that is not launched yet."""

    request: StartEgressRequest
    plan: Plan
    kind: RequestKind
    info: EgressInfo
    context: Context
    """The context of the plan."""
    has_lease: bool = False
    may_be_on_record: bool = False


class Starter:
    """Prepares a start, or undoes one that failed."""

    def __init__(
        self,
        config: WorkerConfig,
        worker_id: str,
        leases: WorkerLeases,
        paths: Paths,
        records: WorkerRecords,
        calls: HandlerCalls,
    ) -> None:
        self._config = config
        self._worker_id = worker_id
        self._leases = leases
        self._paths = paths
        self._records = records
        self._calls = calls

    async def prepare(self, attempt: StartAttempt) -> None:
        """Does everything that may fail or take long. The record comes last, so only a crash leaves a record
        without a job. Raises EgressError."""
        egress_id = attempt.plan.egress_id
        if not await self._leases.egresses.take(self._worker_id, egress_id):
            # It is a repeated request, as the first answer came too late: the other worker is starting it.
            raise EgressError(Code.ALREADY_EXISTS, "egress already exists")
        attempt.has_lease = True
        await self._claim_paths(attempt)
        await check_storage(attempt.plan)
        await self._calls.open(egress_id)
        attempt.may_be_on_record = True
        await self._records.keeper.create(attempt.info)

    async def _claim_paths(self, attempt: StartAttempt) -> None:
        """Renames paths that would collide with another recording's. Raises EgressError."""
        taken = await self._paths.claim(attempt.plan)
        if taken is None:
            return
        context = replace(attempt.context, distinct=self._config.same_path)
        notices = attempt.plan.notices
        plan = msgspec.structs.replace(plan_of(attempt.request, context), notices=notices)
        if (still_taken := await self._paths.claim(plan)) is not None:
            raise places.taken(still_taken)
        attempt.plan = plan
        attempt.info = initial(attempt.request, plan, time.time_ns())

    async def claim_names(self, plan: Plan, told: ClaimNames) -> str:
        """Claims the names of a running egress, once its room has filled them. Returns their suffix. Raises
        EgressError."""
        own = [plan.egress_id] if self._config.same_path is Distinct.ALL else []
        return await self._paths.claim_filled(plan, told, ["", *own])

    async def take_back(self, attempt: StartAttempt, error: BaseException) -> BaseException:
        """Undoes a start that failed. Returns the error to report."""
        egress_id = attempt.plan.egress_id
        await self._paths.release(egress_id)
        await self._calls.close(egress_id)
        refused = isinstance(error, EgressError) and error.code is not Code.DEADLINE_EXCEEDED
        if attempt.may_be_on_record and not refused:
            # Its lease is left to expire: a second call must not start an egress that has failed.
            text = f"{Phase.ADMISSION}: the record keeper did not answer in time: the start was given up"
            self._records.repeat(transitions.ended_by_crash(attempt.info, text, time.time_ns()))
            failed = EgressError(Code.INTERNAL, text, fault=Fault.SERVICE)  # a code that callers do not retry
            return failed if isinstance(error, TimeoutError | EgressError) else error
        if attempt.has_lease:
            try:
                await self._leases.egresses.release([egress_id])
            except EgressError as away:
                _log.warning("cannot release a lease: it expires later", egress_id=egress_id, error=away.text)
        if isinstance(error, TimeoutError):
            return EgressError(
                Code.DEADLINE_EXCEEDED,
                "storage, bus and leases did not answer in time: nothing was started",
                fault=Fault.SERVICE,
                phase=Phase.ADMISSION,
            )
        return error
