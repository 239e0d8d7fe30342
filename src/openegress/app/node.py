"""A worker with everything it needs but the bus: the part that all three ways have in common."""

import asyncio

from livekit.protocol.egress import EgressInfo

from openegress.api.health import Check
from openegress.app.endings import Endings
from openegress.app.node_watch import NodeWatch, Watchers
from openegress.app.spending import SpendingReports
from openegress.app.worker_config import handler_settings, keys_of, room_service, worker_config
from openegress.config.destination import UNREPORTED, report_plan
from openegress.config.settings import Settings, new_node_id
from openegress.core import ipc
from openegress.core.events import Aside, EndReason, Progress, Thumbnail, Uploaded
from openegress.core.info import is_terminal
from openegress.psrpc import Bus
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.server import RPCServer
from openegress.request.request_kind import RequestKind
from openegress.store.heartbeat import Heartbeat
from openegress.worker.config import WorkerLeases, no_metadata
from openegress.worker.fault_reports import FaultReports
from openegress.worker.job import Job
from openegress.worker.load import LoadMeter
from openegress.worker.metrics import Metrics, Snapshot
from openegress.worker.pool import Pool, Shape
from openegress.worker.process import clear_after_dead
from openegress.worker.service import WorkerService
from openegress.worker.supervisor import Supervisor, relay_log
from openegress.worker.unreported import Unreported
from openegress.worker.usage import UsageMeter
from openegress.worker.worker_records import WorkerRecords

_METADATA_S = 2.0
"""For the metadata of a room: whoever asked for a start waits meanwhile."""


class Node:
    """One machine that records."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        leases: WorkerLeases,
        *,
        warm: bool = True,
        shares_folders: bool = False,
        watchers: Watchers | None = None,
    ) -> None:
        """`shares_folders`: another service may use the same folders."""
        watchers = watchers or Watchers()
        self.node_id = new_node_id()
        self._spool = settings.spool_path
        self._shares_folders = shares_folders
        self._room_kind = (
            RequestKind.ROOM_COMPOSITE_PAGE if settings.template_base else RequestKind.ROOM_COMPOSITE
        )
        self._pool = Pool(
            handler_settings(settings),
            browsers=settings.prewarmed_browsers if warm else 0,
            shape=Shape(),
            on_log=lambda record: relay_log("", record),
        )
        self._watchers = watchers
        self._faults = (
            FaultReports(report_plan(settings), settings.debug.path_prefix, self.facts)
            if settings.debug.enable_profiling
            else None
        )
        self.supervisor = Supervisor(self._pool, self._ended, self._aside, self._logged, keys_of(settings))
        of_egresses = Heartbeat(
            leases.egresses,
            self.node_id,
            lambda: self.service.egress_ids(),
            lambda lapsed: self.service.give_up_ended(lapsed),
        )
        of_paths = Heartbeat(leases.paths, self.node_id, lambda: self.service.paths())
        self._heartbeats = {"heartbeat": of_egresses, "heartbeat of paths": of_paths}
        self.metrics = Metrics(self.node_id, settings.cluster_id, self._look)
        self._server = RPCServer(bus, observer=self.metrics.bus)
        self._client = RPCClient(bus, observer=self.metrics.bus)
        self._load = LoadMeter()
        self._usage = UsageMeter()
        keeper = IOInfoClient(
            self._client,
            float(settings.io_create_timeout),
            float(settings.io_update_timeout),
            float(settings.io_selection_timeout),
            of_egresses.is_late,
        )
        self._spending = SpendingReports(keeper)
        self._watch = NodeWatch(watchers, self._pids, self._spending.see)
        self._rooms = room_service(settings, _METADATA_S)
        self.service = WorkerService(
            worker_config(settings, self._rooms.metadata if self._rooms is not None else no_metadata),
            self.node_id,
            self._server,
            WorkerRecords(keeper, Unreported(settings.data_path / UNREPORTED), self._changed),
            self.supervisor,
            self._load,
            leases,
            on_start=of_egresses.wake,
        )
        self._endings = Endings(self.service, self._spool, self._spending, self._faults)

    async def start(self) -> None:
        await asyncio.to_thread(clear_after_dead, str(self._spool))
        await self._pool.start()
        for heartbeat in self._heartbeats.values():
            heartbeat.start()
        await self.service.open()
        self.service.adopt(self._spool, shared=self._shares_folders)

    async def drain(self) -> None:
        """SIGTERM: no new egress; returns when those that run have ended by themselves."""
        await self.service.drain()

    async def close(self) -> None:
        """SIGINT: stops every recording properly, awaits its files, ends what waits in the pool."""
        await self.service.close()
        self.supervisor.stop_all(EndReason.KILLED)
        await self.supervisor.wait_idle()
        await self._endings.wait()
        for heartbeat in self._heartbeats.values():
            await heartbeat.close()
        await self._pool.close()
        if self._rooms is not None:
            await self._rooms.close()
        await self._server.close()
        await self._client.close()

    def facts(self) -> dict[str, str | int | float]:
        """Of this machine, for the dashboard."""
        load = self._load.sample()
        return {
            "node_id": self.node_id,
            "cpu_cores": load.cores,
            "cpu_used": round(load.used_cores, 2),
            "memory_mib": load.memory_bytes // 2**20,
        }

    def infos(self) -> list[EgressInfo]:
        """Of the egresses that run here, newest state."""
        return [job.record.info for job in self.supervisor]

    def free_cores(self) -> float:
        load = self._load.sample()
        return max(0.0, load.cores - load.used_cores)

    async def not_ready(self) -> str | None:
        """Why no traffic should come here; None: it may. A full node counts as ready: it answers with the
        reason."""
        return "draining: no new egress is taken" if self.service.draining else None

    def alive(self) -> dict[str, Check]:
        """The tasks that have to run as long as this process lives."""
        return {name: heartbeat.stopped for name, heartbeat in self._heartbeats.items()}

    def _pids(self) -> dict[str, int]:
        return {job.plan.egress_id: job.pid for job in self.supervisor if job.pid}

    def _aside(self, job: Job, event: Aside) -> None:
        match event:
            case Progress():
                self._watch.progress(job)
            case Uploaded():
                self.metrics.count_upload(event)
            case Thumbnail():
                self._watch.thumbnail(job, event)

    def _logged(self, egress_id: str, record: ipc.Log) -> None:
        if self._faults is not None:
            self._faults.log(egress_id, record)
        relay_log(egress_id, record)

    def _changed(self, info: EgressInfo) -> None:
        if self._faults is not None:
            self._faults.state(info)
        if is_terminal(info) and (job := self.supervisor.get(info.egress_id)) is not None:
            self._spending.ends(job)
        if self._watchers.on_info is not None:
            self._watchers.on_info(info)

    def _look(self) -> Snapshot:
        return Snapshot(
            load=self._load.sample(),
            jobs=list(self.supervisor),
            draining=self.service.draining,
            can_accept=self.service.would_admit(self._room_kind) is None,
            usage=self._usage.measure(self._pids()),
            limits=self.service.limits,
        )

    def _ended(self, job: Job) -> None:
        self.metrics.count_end(job)
        self._endings.begin(job)
