"""A worker with everything it needs but the bus: the part that all three ways have in common."""

import asyncio
import base64
import time
from collections.abc import Callable

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.api.health import Check
from openegress.app.terms import handler_settings, worker_terms
from openegress.config.settings import Settings, new_node_id
from openegress.core.errors import EgressError
from openegress.core.events import Aside, EndReason, Progress, Thumbnail, Uploaded
from openegress.core.request_kind import RequestKind
from openegress.psrpc import Bus
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.server import RPCServer
from openegress.storage.journal import mark_ended
from openegress.store.heartbeat import Heartbeat
from openegress.store.leases import Leases
from openegress.worker.job import Job
from openegress.worker.load import LoadMeter
from openegress.worker.metrics import Metrics, Snapshot
from openegress.worker.pool import Pool, Shape
from openegress.worker.process import clear_after_dead
from openegress.worker.service import WorkerService
from openegress.worker.supervisor import Supervisor, relay_log
from openegress.worker.unreported import Unreported
from openegress.worker.usage import ProcessUsage, UsageMeter

_log = structlog.get_logger(__name__)

_USAGE_EVERY_S = 3.0
"""Between two looks at what each recording takes, for whoever watches; one reads all of /proc."""


class Node:
    """One machine that records."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        leases: Leases,
        *,
        warm: bool = True,
        shares_folders: bool = False,
        on_progress: Callable[[Job], None] | None = None,
        on_info: Callable[[EgressInfo], None] | None = None,
        on_thumbnail: Callable[[str, str], None] | None = None,
    ) -> None:
        """`on_thumbnail` gets an egress id and a data: URL. `shares_folders`: a service may have the same."""
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
        self._endings: set[asyncio.Task[None]] = set()
        self._on_progress = on_progress
        self._on_thumbnail = on_thumbnail
        self.supervisor = Supervisor(self._pool, self._ended, self._aside)
        self._heartbeat = Heartbeat(
            leases,
            self.node_id,
            lambda: self.service.egress_ids(),
            lambda lapsed: self.service.give_up_ended(lapsed),
        )
        self._server = RPCServer(bus)
        self._client = RPCClient(bus)
        self._load = LoadMeter()
        self._usage = UsageMeter()
        self._watched = UsageMeter()
        self._watched_at_s = time.monotonic()
        self._cores: dict[str, ProcessUsage] = {}
        self.service = WorkerService(
            worker_terms(settings),
            self._server,
            IOInfoClient(
                self._client,
                float(settings.io_create_timeout),
                float(settings.io_update_timeout),
                float(settings.io_selection_timeout),
                self._heartbeat.is_late,
            ),
            Unreported(settings.data_path / "unreported"),
            self.supervisor,
            self._load,
            leases,
            self.node_id,
            on_start=self._heartbeat.wake,
            on_info=on_info,
        )
        self.metrics = Metrics(self.node_id, settings.cluster_id, self._look)

    async def start(self) -> None:
        await asyncio.to_thread(clear_after_dead, str(self._spool))
        await self._pool.start()
        self._heartbeat.start()
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
        await asyncio.gather(*self._endings)
        await self._heartbeat.close()
        await self._pool.close()
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
        """Why no traffic should come here; None: all is well. A full node is ready: it answers why."""
        return "draining: no new egress is taken" if self.service.draining else None

    def alive(self) -> dict[str, Check]:
        """What has to go on as long as this process lives."""
        return {"heartbeat": self._heartbeat.stopped}

    def usage(self) -> dict[str, ProcessUsage]:
        """By egress id; cores since the call before."""
        return self._usage.measure(self._pids())

    def _pids(self) -> dict[str, int]:
        return {job.plan.egress_id: job.pid for job in self.supervisor if job.pid}

    def _aside(self, job: Job, event: Aside) -> None:
        match event:
            case Progress():
                self._progress(job)
            case Uploaded():
                self.metrics.count_upload(event)
            case Thumbnail(jpeg) if self._on_thumbnail is not None:
                picture = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
                self._on_thumbnail(job.plan.egress_id, picture)

    def _progress(self, job: Job) -> None:
        """Adds what the recording takes of the machine, and passes the progress on."""
        if self._on_progress is None or job.progress is None:
            return
        now_s = time.monotonic()
        if now_s - self._watched_at_s >= _USAGE_EVERY_S:
            self._watched_at_s = now_s
            self._cores = self._watched.measure(self._pids())
        if (usage := self._cores.get(job.plan.egress_id)) is not None:
            job.progress = msgspec.structs.replace(job.progress, cpu_cores=round(usage.cores, 3))
        self._on_progress(job)

    def _look(self) -> Snapshot:
        return Snapshot(
            load=self._load.sample(),
            jobs=list(self.supervisor),
            draining=self.service.draining,
            can_accept=self.service.would_admit(self._room_kind) is None,
            usage=self.usage(),
            limits=self.service.limits,
        )

    def _ended(self, job: Job) -> None:
        self.metrics.count_end(job)
        task = asyncio.create_task(self._forget(job))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _forget(self, job: Job) -> None:
        await self.service.forget(job)
        try:
            await asyncio.to_thread(mark_ended, self._spool / job.plan.egress_id)
        except EgressError as error:
            # All it costs is that a recovery counts as one more end.
            _log.warning("an end is not noted", egress_id=job.plan.egress_id, error=error.text)
