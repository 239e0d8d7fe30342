"""What a node reports to watchers of its recordings, beside their records."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from livekit.protocol.egress import EgressInfo

from openegress.core.events import Thumbnail, TimelineEvent
from openegress.worker.job import Job
from openegress.worker.usage import ProcessUsage, UsageMeter

_USAGE_EVERY_S = 3.0
"""Interval at which watchers get the usage of each recording. A reading goes through all of /proc."""
_USAGE_UNWATCHED_S = 15.0
"""The same for the report of peak use."""


@dataclass(frozen=True, slots=True)
class Watchers:
    on_progress: Callable[[Job], None] | None = None
    on_info: Callable[[EgressInfo], None] | None = None
    """Called with each change of a record."""
    on_thumbnail: Callable[[str, str], None] | None = None
    """Gets an egress id and a data: URL."""
    on_timeline_event: Callable[[str, TimelineEvent], None] | None = None
    """Gets an egress id."""


class NodeWatch:
    """Adds the resources that each recording uses."""

    def __init__(
        self,
        watchers: Watchers,
        pids: Callable[[], dict[str, int]],
        on_usage: Callable[[dict[str, ProcessUsage]], None],
    ) -> None:
        """`pids`: of the handlers, by egress id. `on_usage` gets the usage since its last call."""
        self._watchers = watchers
        self._pids = pids
        self._on_usage = on_usage
        self._meter = UsageMeter()
        self._measured_at_s = time.monotonic()
        self._usage: dict[str, ProcessUsage] = {}

    def progress(self, job: Job) -> None:
        if job.progress is None:
            return
        now_s = time.monotonic()
        every_s = _USAGE_UNWATCHED_S if self._watchers.on_progress is None else _USAGE_EVERY_S
        if now_s - self._measured_at_s >= every_s:
            self._measured_at_s = now_s
            self._usage = self._meter.measure(self._pids())
            self._on_usage(self._usage)
        if self._watchers.on_progress is None:
            return
        if (usage := self._usage.get(job.plan.egress_id)) is not None:
            job.progress = msgspec.structs.replace(job.progress, cpu_cores=round(usage.cores, 3))
        self._watchers.on_progress(job)

    def happened(self, job: Job, event: TimelineEvent) -> None:
        if self._watchers.on_timeline_event is not None:
            self._watchers.on_timeline_event(job.plan.egress_id, event)

    def thumbnail(self, job: Job, taken: Thumbnail) -> None:
        if self._watchers.on_thumbnail is not None:
            picture = "data:image/jpeg;base64," + base64.b64encode(taken.jpeg).decode()
            self._watchers.on_thumbnail(job.plan.egress_id, picture)
