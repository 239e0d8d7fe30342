"""Distributes what the egresses of a node do to metrics, reports of failed ones, spending, and watchers."""

from collections.abc import Callable

from livekit.protocol.egress import EgressInfo

from openegress.app.node_watch import NodeWatch, Watchers
from openegress.app.spending import SpendingReports
from openegress.core import ipc
from openegress.core.events import (
    ExtraFileStored,
    MarkerAdded,
    ObserverEvent,
    Progress,
    Rejoined,
    Restarted,
    Thumbnail,
    Uploaded,
)
from openegress.core.info import is_terminal
from openegress.worker.fault_reports import FaultReports
from openegress.worker.job import Job
from openegress.worker.metrics import Metrics
from openegress.worker.supervisor import relay_log


class EgressObserver:
    """Its methods are called while egresses run, and never raise when one of the receivers fails."""

    def __init__(
        self,
        metrics: Metrics,
        watchers: Watchers,
        watch: NodeWatch,
        spending: SpendingReports,
        faults: FaultReports | None,
        find_job: Callable[[str], Job | None],
    ) -> None:
        """`faults`: None where reports of failed egresses are disabled."""
        self._metrics = metrics
        self._watchers = watchers
        self._watch = watch
        self._spending = spending
        self._faults = faults
        self._find_job = find_job

    def on_event(self, job: Job, event: ObserverEvent | Restarted) -> None:
        match event:
            case Restarted():
                self._metrics.count_restart()
            case Progress():
                self._watch.progress(job)
            case Uploaded():
                self._metrics.count_upload(event)
            case Thumbnail():
                self._watch.thumbnail(job, event)
            case Rejoined() | MarkerAdded() | ExtraFileStored():
                self._watch.happened(job, event)

    def logged(self, egress_id: str, record: ipc.Log) -> None:
        if self._faults is not None:
            self._faults.log(egress_id, record)
        relay_log(egress_id, record)

    def changed(self, info: EgressInfo) -> None:
        if self._faults is not None:
            self._faults.state(info)
        if is_terminal(info) and (job := self._find_job(info.egress_id)) is not None:
            self._spending.ends(job)
        if self._watchers.on_info is not None:
            self._watchers.on_info(info)
