"""`openegress serve`: the Egress API, its records and webhooks.

Alone, everything is in this process: the bus is in memory, records are in SQLite, and there is one worker.
With Redis configured, it serves any number of workers, and bus and records are in Redis.
"""

from contextlib import AsyncExitStack
from importlib import metadata

import structlog

from openegress.api.control import ControlMethods
from openegress.api.dashboard_state import DashboardState
from openegress.api.egress import ApiPolicy, EgressService
from openegress.api.health import Check, Health
from openegress.api.room_events import RoomEvents
from openegress.api.server import ApiServer, Listen, Parts
from openegress.app.auto_start_faults import auto_start_faults
from openegress.app.auto_starts import AutoStarts
from openegress.app.folders import make_folders
from openegress.app.liveness import EventLoop, answers
from openegress.app.node import Node
from openegress.app.node_watch import Watchers
from openegress.app.ports import Ports
from openegress.app.worker_config import path_leases, pictures_of, room_service
from openegress.config.destination import local_folders
from openegress.config.finding import Level
from openegress.config.settings import Settings
from openegress.core.errors import Code, invalid
from openegress.core.shown_url import redact_endpoint
from openegress.psrpc import Bus
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.server import RPCServer
from openegress.request.auto_start import rule_of
from openegress.store.ioinfo import IOInfoService
from openegress.store.janitor import Janitor
from openegress.store.leases import Leases, MemoryLeases
from openegress.store.open import open_store
from openegress.store.outbox import WebhookSender
from openegress.store.redis_leases import RedisLeases
from openegress.store.webhooks import Webhooks, default_key
from openegress.worker.config import WorkerLeases
from openegress.worker.job import Job

_log = structlog.get_logger(__name__)

_LAST_WEBHOOKS_S = 3.0
"""Time for the webhooks of egresses that end with the service. The others are sent after the next start."""


class Server:
    """start(), then serve until drain() or close()."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._alone = not settings.redis.configured
        self._parts = AsyncExitStack()
        self._board = DashboardState()
        self._node: Node | None = None

    async def start(self) -> None:
        """Raises EgressError when a port, a folder or Redis is not available."""
        settings, parts = self._settings, self._parts
        make_folders(settings)
        store = await open_store(settings)
        parts.push_async_callback(store.close)
        bus: Bus = MemoryBus() if self._alone else RedisBus(settings.redis)
        loop = EventLoop()
        loop.start()
        parts.push_async_callback(loop.close)
        parts.push_async_callback(bus.close)
        leases: Leases = MemoryLeases() if self._alone else RedisLeases(settings.redis)
        parts.push_async_callback(leases.close)

        sender = WebhookSender(
            Webhooks(settings), store, settings.all_keys, float(settings.retries.webhook_for)
        )
        await sender.start()
        parts.push_async_callback(sender.close)
        parts.push_async_callback(sender.drain, _LAST_WEBHOOKS_S)
        records = IOInfoService(store, sender)
        self._board.load(await store.list())
        records.listen(self._board.update)
        answering = RPCServer(bus)
        parts.push_async_callback(answering.close)
        await records.register(answering)

        client = RPCClient(bus)
        parts.push_async_callback(client.close)
        rooms = room_service(settings)
        if rooms is not None:
            parts.push_async_callback(rooms.close)
        janitor = Janitor.of_records(
            leases, answering.server_id, records, store, float(settings.record_retention)
        )
        node: Node | None = None
        if self._alone:
            paths = path_leases(settings, MemoryLeases())
            parts.push_async_callback(paths.close)
            node = self._own_node(bus, WorkerLeases(leases, paths))
        health = self._health(loop, bus, sender, janitor, node)
        self._check_rules()
        egress = EgressService(client, records, rooms, policy(settings))
        parts.push_async_callback(egress.close)
        auto_starts = AutoStarts(
            [rule_of(block.rooms, block.egress) for block in settings.auto_start], egress.start, records
        )
        parts.push_async_callback(auto_starts.close)
        api = self._api(egress, records, auto_starts, health)
        await api.start()
        parts.push_async_callback(api.close)
        if node is not None:
            parts.push_async_callback(node.close)
            await node.start()
            self._node = node
            facts = node.machine.facts
            self._board.node(lambda: {"version": metadata.version("openegress"), **facts()})
            # Recordings that this machine left behind have ended; those of other workers are not ours.
            records.listen(auto_starts.on_record)
        if settings.auto_start and rooms is not None:
            auto_starts.scan_rooms(rooms)
        ports = Ports(settings, self._node, health)
        parts.push_async_callback(ports.close)
        await ports.start()
        janitor.start()
        parts.push_async_callback(janitor.close)
        _log.info(
            "serving the Egress API",
            url=api.url,
            livekit=redact_endpoint(settings.ws_url) or "not configured",
            workers="own" if self._alone else "over Redis",
        )

    async def drain(self) -> None:
        if self._node is not None:
            await self._node.drain()

    async def close(self) -> None:
        await self._parts.aclose()

    def _health(
        self, loop: EventLoop, bus: Bus, sender: WebhookSender, janitor: Janitor, node: Node | None
    ) -> Health:
        alive: dict[str, Check] = {
            "event loop": loop.check,
            "janitor": janitor.stopped,
            "webhooks": sender.stopped,
            **(node.alive() if node is not None else {}),
        }
        ready: dict[str, Check] = {}
        if node is not None:
            ready["worker"] = self._not_ready
        if isinstance(bus, RedisBus):
            alive["bus"] = bus.stopped
            ready["redis"] = answers(bus)
        return Health(alive, ready)

    def _api(
        self, egress: EgressService, records: IOInfoService, auto_starts: AutoStarts, health: Health
    ) -> ApiServer:
        settings = self._settings
        keys = {key: secret.reveal() for key, secret in settings.all_keys.items()}
        return ApiServer(
            Listen(settings.host, settings.port),
            Parts(
                keys=keys,
                unknown_fields=settings.unknown_fields,
                egress=egress,
                control=ControlMethods(egress),
                room_events=RoomEvents(keys, auto_starts.on_event) if settings.auto_start else None,
                board=self._board,
                health=health,
                folders=local_folders(settings),
                find=records.get,
            ),
        )

    async def _not_ready(self) -> str | None:
        return await self._node.not_ready() if self._node is not None else "starting"

    def _check_rules(self) -> None:
        """Raises EgressError for a rule of auto_start that would record nothing."""
        for fault in auto_start_faults(self._settings):
            if fault.level is Level.ERROR:
                raise invalid(f"{fault.path}: {fault.text}")
            _log.warning("a rule of auto_start may record nothing", rule=fault.path, why=fault.text)

    def _own_node(self, bus: Bus, leases: WorkerLeases) -> Node:
        return Node(
            self._settings,
            bus,
            leases,
            watchers=Watchers(
                self._progress, on_thumbnail=self._board.thumbnail, on_timeline_event=self._board.happened
            ),
        )

    def _progress(self, job: Job) -> None:
        if job.progress is not None:
            self._board.progress(job.plan.egress_id, job.progress)


def policy(settings: Settings) -> ApiPolicy:
    return ApiPolicy(
        signing_keys=tuple(settings.all_keys),
        default_signing_key=default_key(settings),
        cluster_id=settings.cluster_id,
        queue_size=settings.queue.size,
        queue_max_wait_s=float(settings.queue.max_wait),
        no_room=Code(settings.no_room.value),
        template_base=settings.template_base,
        pictures=pictures_of(settings),
        layouts=tuple(settings.layouts),
    )
