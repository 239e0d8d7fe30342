"""A worker behind a livekit-server: requests come over Redis, and the server keeps the records and sends the
webhooks."""

import asyncio
import os
from importlib import metadata

from openegress.api.control import ControlMethods
from openegress.api.dashboard_state import DashboardState
from openegress.api.health import Health
from openegress.api.own_egresses import OwnEgresses
from openegress.api.server import ApiServer, Listen, Parts
from openegress.app.folders import make_folders
from openegress.app.liveness import EventLoop, answers
from openegress.app.node import Node
from openegress.app.node_watch import Watchers
from openegress.app.ports import Ports
from openegress.app.worker_config import path_leases
from openegress.config.destination import local_folders
from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError
from openegress.psrpc.client import RPCClient
from openegress.psrpc.redis import RedisBus
from openegress.store.handovers import Handovers
from openegress.store.janitor import Janitor
from openegress.store.redis_leases import RedisLeases
from openegress.worker.config import WorkerLeases
from openegress.worker.holder import held, holder_of
from openegress.worker.job import Job


class DropIn:
    """start(), then work until drain() or close()."""

    def __init__(self, settings: Settings) -> None:
        """Raises EgressError when the configuration lacks something that a worker requires."""
        if not settings.redis.configured:
            raise EgressError(
                Code.FAILED_PRECONDITION,
                "a worker needs redis: set redis.address to the Redis of your livekit-server,"
                " or run `openegress serve`, which needs none",
            )
        self._settings = settings
        self._started = False
        self._spool_fd: int | None = None
        self._board = DashboardState()
        self._bus = RedisBus(settings.redis)
        self._leases = RedisLeases(settings.redis)
        self._path_leases = path_leases(settings, RedisLeases(settings.redis, "paths"))
        secret = settings.api_secret.reveal()
        self._handovers = Handovers(settings.redis, settings.cluster_id, secret) if secret else None
        self._client = RPCClient(self._bus)
        self._node = Node(
            settings,
            self._bus,
            WorkerLeases(self._leases, self._path_leases, self._handovers),
            watchers=Watchers(
                self._progress, self._board.update, self._board.thumbnail, self._board.happened
            ),
        )
        own = OwnEgresses(self._client, self._node.infos, settings.cluster_id)
        # The template for a template_base that names it, and the dashboard for operators who forward the
        # port.
        self._pages = ApiServer(
            Listen("127.0.0.1", settings.template_port),
            Parts(
                keys={key: secret.reveal() for key, secret in settings.all_keys.items()},
                unknown_fields=settings.unknown_fields,
                egress=own,
                control=ControlMethods(own),
                board=self._board,
                folders=local_folders(settings),
            ),
        )
        self._board.node(lambda: {"version": metadata.version("openegress"), **self._node.machine.facts()})
        self._janitor = Janitor.of_worker(self._leases, self._node.node_id, self._client)
        self._loop = EventLoop()
        health = Health(
            alive={
                "event loop": self._loop.check,
                "bus": self._bus.stopped,
                "janitor": self._janitor.stopped,
                **self._node.alive(),
            },
            ready={"worker": self._ready, "redis": answers(self._bus)},
        )
        self._ports = Ports(settings, self._node, health)

    async def start(self) -> None:
        """Waits for Redis. Raises EgressError when a port or a folder is not available."""
        make_folders(self._settings)
        if self._handovers is not None:
            self._handovers.open(await asyncio.to_thread(holder_of, self._settings.spool_path))
        self._spool_fd = await asyncio.to_thread(held, self._settings.spool_path)
        self._loop.start()
        await self._pages.start()
        await self._ports.start()
        await self._node.start()
        self._janitor.start()
        self._started = True

    async def drain(self) -> None:
        await self._node.drain()

    async def close(self) -> None:
        """Closes whatever start() opened."""
        await self._janitor.close()
        await self._node.close()
        await self._client.close()
        await self._leases.close()
        if self._handovers is not None:
            await self._handovers.close()
        await self._path_leases.close()
        await self._ports.close()
        await self._pages.close()
        if self._spool_fd is not None:
            os.close(self._spool_fd)
            self._spool_fd = None
        await self._bus.close()
        await self._loop.close()

    def _progress(self, job: Job) -> None:
        if job.progress is not None:
            self._board.progress(job.plan.egress_id, job.progress)

    async def _ready(self) -> str | None:
        return await self._node.not_ready() if self._started else "waiting for redis"
