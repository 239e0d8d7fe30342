"""What a start takes before its launch: leases, paths, storage, topics, a record."""

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
    """A start on its way to the launch."""

    request: StartEgressRequest
    plan: Plan
    kind: RequestKind
    info: EgressInfo
    context: Context
    """By which the plan was made."""
    has_lease: bool = False
    may_be_on_record: bool = False


class Starter:
    """Prepares a start, or takes one back that came to nothing."""

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
        """All that may fail or take long. The record comes last: only a crash leaves one without a job.
        Raises EgressError."""
        egress_id = attempt.plan.egress_id
        if not await self._leases.egresses.take(self._worker_id, egress_id):
            # Asked twice, as the first answer did not come in time: the other worker is at it.
            raise EgressError(Code.ALREADY_EXISTS, "egress already exists")
        attempt.has_lease = True
        await self._claim_paths(attempt)
        await check_storage(attempt.plan)
        await self._calls.open(egress_id)
        attempt.may_be_on_record = True
        await self._records.keeper.create(attempt.info)

    async def _claim_paths(self, attempt: StartAttempt) -> None:
        """Gives other names to what would meet another recording's. Raises EgressError."""
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
        """Of an egress that runs, once its room has told what its names are. Returns what goes behind them.
        Raises EgressError."""
        own = [plan.egress_id] if self._config.same_path is Distinct.ALL else []
        return await self._paths.claim_filled(plan, told, ["", *own])

    async def take_back(self, attempt: StartAttempt, error: BaseException) -> BaseException:
        """Takes a start back that came to nothing; returns what to say of it."""
        egress_id = attempt.plan.egress_id
        await self._paths.release(egress_id)
        await self._calls.close(egress_id)
        refused = isinstance(error, EgressError) and error.code is not Code.DEADLINE_EXCEEDED
        if attempt.may_be_on_record and not refused:
            # Its lease is left to run out: an egress that has failed must not be started by a second call.
            text = f"{Phase.ADMISSION}: the record keeper did not answer in time: the start was given up"
            self._records.repeat(transitions.ended_by_crash(attempt.info, text, time.time_ns()))
            failed = EgressError(Code.INTERNAL, text, fault=Fault.SERVICE)  # a code that is not asked again
            return failed if isinstance(error, TimeoutError | EgressError) else error
        if attempt.has_lease:
            try:
                await self._leases.egresses.release([egress_id])
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
