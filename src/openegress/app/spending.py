"""Reports the resources that each egress used to the record keeper at its end (IOInfo.UpdateMetrics)."""

import time

import structlog

from openegress.core.errors import EgressError
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.worker.job import Job
from openegress.worker.usage import ProcessUsage, Spending, spent_s

_log = structlog.get_logger(__name__)


class SpendingReports:
    """The reports of one node."""

    def __init__(self, keeper: IOInfoClient) -> None:
        self._keeper = keeper
        self._spending = Spending()

    def see(self, usage: dict[str, ProcessUsage]) -> None:
        """Takes what each egress used since the last reading, by id."""
        self._spending.see(usage)

    def ends(self, job: Job) -> None:
        """Notes that the job's handler is about to end."""
        if pid := job.handlers.pid:
            self._spending.end(job.plan.egress_id, spent_s(pid), time.monotonic() - job.started_s)

    async def report(self, job: Job) -> None:
        """Never raises: a livekit-server only logs it."""
        spent = self._spending.take(job.plan.egress_id)
        if spent is None or job.had_ended:
            return
        try:
            await self._keeper.report_usage(job.record.info, *spent)
        except EgressError as error:
            _log.debug("usage not taken", egress_id=job.plan.egress_id, error=error.text)
