"""A worker with everything it needs except the bus: the part that all three modes share."""

import asyncio

import structlog
from livekit.protocol.egress import EgressInfo

from openegress.api.health import Check
from openegress.api.rooms import RoomService
from openegress.app.egress_observer import EgressObserver
from openegress.app.endings import Endings
from openegress.app.machine import Machine
from openegress.app.node_watch import NodeWatch, Watchers
from openegress.app.spending import SpendingReports
from openegress.app.worker_config import (
    context_maker,
    handler_settings,
    job_keys,
    key_services,
    room_service,
    worker_config,
)
from openegress.config.destination import UNREPORTED, report_plan, storage_plan
from openegress.config.settings import Settings, new_node_id
from openegress.core.events import EndReason
from openegress.core.storages import S3Storage
from openegress.psrpc import Bus
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.server import RPCServer
from openegress.request.request_kind import RequestKind
from openegress.source.web import page_cgroup
from openegress.storage.seal import Seal
from openegress.store.heartbeat import Heartbeat
from openegress.worker.clips import ClipService
from openegress.worker.compose_turns import ComposeTurns
from openegress.worker.config import WorkerLeases, no_metadata
from openegress.worker.fault_reports import FaultReports
from openegress.worker.fork_client import ForkClient
from openegress.worker.job import Job
from openegress.worker.key_service import KeyServices
from openegress.worker.metrics import Metrics, Snapshot
from openegress.worker.pool import Pool, Shape
from openegress.worker.process import clear_after_dead
from openegress.worker.room_check import RoomCheck
from openegress.worker.service import WorkerService
from openegress.worker.supervisor import Supervisor, relay_log
from openegress.worker.tenures import Tenures
from openegress.worker.unreported import Unreported
from openegress.worker.worker_records import WorkerRecords

_log = structlog.get_logger(__name__)

_METADATA_S = 2.0
"""Time-out for the metadata of a room: the caller of a start waits meanwhile."""


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
            forks=ForkClient(stores_on_s3=isinstance(storage_plan(settings).backend, S3Storage)),
        )
        self.machine = Machine(self.node_id, self._pids)
        self.metrics = Metrics(self.node_id, settings.cluster_id, self._look)
        self._server = RPCServer(bus, observer=self.metrics.bus)
        self._client = RPCClient(bus, observer=self.metrics.bus)
        of_egresses = Heartbeat(
            leases.egresses,
            self.node_id,
            lambda: self.service.egress_ids(),
            lambda lapsed: self.service.give_up_ended(lapsed),
        )
        of_paths = Heartbeat(leases.paths, self.node_id, lambda: self.service.paths())
        self._heartbeats = {"heartbeat": of_egresses, "heartbeat of paths": of_paths}
        keeper = IOInfoClient(
            self._client,
            float(settings.io_create_timeout),
            float(settings.io_update_timeout),
            float(settings.io_selection_timeout),
            of_egresses.is_late,
        )
        spending = SpendingReports(keeper)
        faults = (
            FaultReports(report_plan(settings), settings.debug.path_prefix, self.machine.facts)
            if settings.debug.enable_profiling
            else None
        )
        watch = NodeWatch(watchers, self._pids, spending.see)
        observer = EgressObserver(
            self.metrics, watchers, watch, spending, faults, lambda egress_id: self.supervisor.get(egress_id)
        )
        keys = key_services(settings, self.metrics.count_key_answer)
        rooms = room_service(settings, _METADATA_S)
        self._asked: list[KeyServices | RoomService] = [keys] if rooms is None else [rooms, keys]
        """Other services that are asked about rooms."""
        self.supervisor = Supervisor(
            self._pool,
            self._ended,
            observer.on_event,
            observer.logged,
            job_keys(settings, keys),
            self._turns(settings),
            RoomCheck(rooms.find if rooms is not None else None),
            Seal(settings.spool_path),
        )
        self.service = WorkerService(
            worker_config(settings, rooms.metadata if rooms is not None else no_metadata),
            self.node_id,
            self._server,
            WorkerRecords(
                keeper,
                Unreported(settings.data_path / UNREPORTED),
                observer.changed,
                self._tenures(leases, keeper),
            ),
            self.supervisor,
            self.machine.meter,
            leases,
            on_start=of_egresses.wake,
        )
        self._clips = ClipService(
            self._server,
            self.supervisor,
            self._pool.spawn,
            context_maker(settings),
            settings.cluster_id,
            self._spool,
            self.service.held_paths,
        )
        self._endings = Endings(self.service, self._spool, spending, faults)

    def _turns(self, settings: Settings) -> ComposeTurns:
        """One draws and encodes in two threads, of which neither has a core for itself."""
        most = settings.cpu_cost.max_composing or max(1, int(self.machine.load().cores))
        return ComposeTurns(most)

    def _tenures(self, leases: WorkerLeases, keeper: IOInfoClient) -> Tenures | None:
        if leases.handovers is None:
            return None
        return Tenures(
            leases.handovers,
            self.supervisor,
            keeper,
            self._client,
            lambda egress_id: self.service.lose(egress_id),
        )

    async def start(self) -> None:
        await asyncio.to_thread(clear_after_dead, str(self._spool))
        if not self._shares_folders:
            self._confine_pages()
        await self._pool.start()
        for heartbeat in self._heartbeats.values():
            heartbeat.start()
        await self.service.open()
        if not self._shares_folders:
            await asyncio.to_thread(self._clips.clear_after_dead)
        await self._clips.open()
        self.service.adopt(self._spool, shared=self._shares_folders)

    def _confine_pages(self) -> None:
        """Called before other processes of ours exist."""
        try:
            _log.info("the kernel bounds the memory of pages", cgroup=str(page_cgroup.prepare()))
        except page_cgroup.NotDelegated as lacking:
            _log.info("the memory of pages is watched, without a cgroup", reason=str(lacking))

    async def drain(self) -> None:
        """SIGTERM: accepts no new egress, and returns when those that run have ended by themselves."""
        await self.service.drain()

    async def close(self) -> None:
        """SIGINT: stops every recording properly, waits for its files, and ends the handlers in the pool.
        Recordings that will resume at the next start are left to it."""
        await self._clips.close()
        await self.service.close()
        if not self._shares_folders:
            self.supervisor.leave_all()
        self.supervisor.stop_all(EndReason.KILLED)
        await self.supervisor.wait_idle()
        await self._endings.wait()
        for heartbeat in self._heartbeats.values():
            await heartbeat.close()
        await self._pool.close()
        for service in self._asked:
            await service.close()
        await self._server.close()
        await self._client.close()

    def infos(self) -> list[EgressInfo]:
        """The current state of the egresses that run here."""
        return [job.record.info for job in self.supervisor]

    async def not_ready(self) -> str | None:
        """Why no traffic should come here; None: it may. A full node counts as ready: it answers with the
        reason."""
        return "draining: no new egress is taken" if self.service.draining else None

    def alive(self) -> dict[str, Check]:
        """The tasks that must run as long as this process lives."""
        beats = {name: heartbeat.stopped for name, heartbeat in self._heartbeats.items()}
        return beats | self.service.alive()

    def _pids(self) -> dict[str, int]:
        return {job.plan.egress_id: pid for job in self.supervisor if (pid := job.handlers.pid)}

    def _look(self) -> Snapshot:
        return Snapshot(
            load=self.machine.load(),
            jobs=list(self.supervisor),
            draining=self.service.draining,
            can_accept=self.service.would_admit(self._room_kind) is None,
            usage=self.machine.usage(),
            limits=self.service.limits,
        )

    def _ended(self, job: Job) -> None:
        if not job.is_left:
            self.metrics.count_end(job)
        self._endings.begin(job)
