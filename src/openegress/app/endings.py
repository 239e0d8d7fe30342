"""Follows up on the end of an egress on this machine: counts, reports, and frees its paths."""

import asyncio
from pathlib import Path

import structlog

from openegress.app.spending import SpendingReports
from openegress.core.errors import EgressError
from openegress.storage.journal import mark_ended
from openegress.worker.fault_reports import FaultReports
from openegress.worker.job import Job
from openegress.worker.service import WorkerService

_log = structlog.get_logger(__name__)


class Endings:
    """Owns the tasks that follow an end."""

    def __init__(
        self, service: WorkerService, spool: Path, spending: SpendingReports, faults: FaultReports | None
    ) -> None:
        """`faults`: None where reports of failed egresses are disabled."""
        self._service = service
        self._spool = spool
        self._spending = spending
        self._faults = faults
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, job: Job) -> None:
        task = asyncio.create_task(self._forget(job), name=f"forget {job.plan.egress_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Returns when all tasks that began have finished."""
        await asyncio.gather(*self._tasks)

    async def _forget(self, job: Job) -> None:
        if job.is_left:
            return  # its paths are still its own
        await self._service.forget(job)
        try:
            await asyncio.to_thread(mark_ended, self._spool / job.plan.egress_id)
        except EgressError as error:
            # Without the note, a recovery would only count as one more end.
            _log.warning("an end is not noted", egress_id=job.plan.egress_id, error=error.text)
        await self._spending.report(job)
        if self._faults is not None:
            await self._faults.ended(job)
