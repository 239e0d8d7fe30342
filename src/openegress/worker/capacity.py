"""The capacity that this worker has left."""

import time
from dataclasses import replace

import msgspec

from openegress.core import info as transitions
from openegress.core.codecs import LIVE_SPEEDS
from openegress.core.errors import EgressError
from openegress.core.plan import Plan
from openegress.core.render import Render
from openegress.request.request_kind import RequestKind
from openegress.worker import cost
from openegress.worker.admission import Cost, Load, Reserved, admit, hesitation_s, no_room
from openegress.worker.config import WorkerConfig
from openegress.worker.job import Job
from openegress.worker.load import LoadMeter
from openegress.worker.supervisor import Supervisor
from openegress.worker.usage import UsageMeter

_WINDOW_S = 0.5
"""The interval at which the load is measured."""
_SETTLING_S = 8.0
"""How long a new egress counts with its full cost on top of the measured load."""


class Capacity:
    """The capacity left by the measured load, by what runs here, and by what is being started."""

    def __init__(self, config: WorkerConfig, meter: LoadMeter, supervisor: Supervisor) -> None:
        self._config = config
        self._meter = meter
        self._supervisor = supervisor
        self._usage = UsageMeter()
        self._idle_cores, self._measured_s = 0.0, 0.0
        self._starting: dict[str, tuple[RequestKind, Plan]] = {}

    def reserve(self, egress_id: str, kind: RequestKind, plan: Plan) -> None:
        """Reserves capacity for a start until free()."""
        self._starting[egress_id] = (kind, plan)

    def free(self, egress_id: str) -> None:
        del self._starting[egress_id]

    def is_starting(self, egress_id: str) -> bool:
        return egress_id in self._starting

    def refusal(self, kind: RequestKind, plan: Plan | None = None) -> EgressError | None:
        """The error that refuses one more egress of this kind or, if given, this plan; None: there is
        room."""
        limit = self._config.max_browsers
        browsers = sum(running.needs_browser for running in self._kinds())
        if limit and kind.needs_browser and browsers >= limit:
            return no_room(
                self._config.limits,
                f"{browsers} browsers are running here, and max_concurrent_web is {limit}",
            )
        return admit(
            kind.value,
            self._cost(kind, self.suited(kind, plan) if plan is not None else None),
            self._load(),
            self._reserved(),
            len(self._kinds()),
            self._config.limits,
        )

    def suited(self, kind: RequestKind, plan: Plan) -> Plan:
        """`plan` with the slowest encoder speed that there is room for, if the plan lets the machine choose.
        If there is room for none, it has the fastest speed."""
        video = plan.video
        if video is None or not video.adapts or plan.render is Render.DEFERRED:
            return plan
        load, reserved = self._load(), self._reserved()
        for speed in reversed(LIVE_SPEEDS):
            plan = msgspec.structs.replace(plan, video=msgspec.structs.replace(video, speed=speed))
            # An idle machine would accept any plan; here only free capacity counts.
            running = max(1, len(self._kinds()))
            if (
                admit(kind.value, self._cost(kind, plan), load, reserved, running, self._config.limits)
                is None
            ):
                break
        return plan

    def hesitation_s(self) -> float:
        """How long to let a worker with more room answer first."""
        return hesitation_s(self._load(), self._reserved(), len(self._kinds()))

    def _load(self) -> Load:
        """The load without composing, which gives way to everything else."""
        load, now_s = self._meter.sample(), time.monotonic()
        if now_s - self._measured_s >= _WINDOW_S:
            pids = {
                job.plan.egress_id: pid
                for job in self._running()
                if job.composing is not None and (pid := job.handlers.pid) is not None
            }
            self._idle_cores = sum(each.cores for each in self._usage.measure(pids).values())
            self._measured_s = now_s
        return replace(load, used_cores=max(0.0, load.used_cores - self._idle_cores))

    def _cost(self, kind: RequestKind, plan: Plan | None) -> Cost:
        if plan is not None and plan.render is Render.DEFERRED:
            return self._config.costs[RequestKind.ROOM_TRACKS]  # Composing takes only what is left.
        base = self._config.costs[kind]
        return base if plan is None else cost.of_plan(base, plan)

    def _running(self) -> list[Job]:
        """The egresses that use capacity. One that has ended frees it, even while its process still cleans
        up."""
        return [job for job in self._supervisor if not transitions.is_terminal(job.record.info)]

    def _kinds(self) -> list[RequestKind]:
        return [RequestKind(job.kind) for job in self._running()] + [
            kind for kind, _ in self._starting.values()
        ]

    def _reserved(self) -> Reserved:
        now_s = time.monotonic()
        young = [
            (RequestKind(job.kind), job.plan)
            for job in self._running()
            if now_s - job.started_s < _SETTLING_S
        ]
        costs = [self._cost(kind, plan) for kind, plan in (*young, *self._starting.values())]
        return Reserved(sum(cost.cores for cost in costs), sum(cost.memory_bytes for cost in costs))
