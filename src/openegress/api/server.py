"""The HTTP server: serves the Egress API, pages, dashboard and health on one port."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from openegress.api import connections
from openegress.api.control import CONTROL
from openegress.api.dashboard import EVENTS_PATH, Dashboard
from openegress.api.dashboard_state import DashboardState
from openegress.api.egress import SERVICE
from openegress.api.health import Health
from openegress.api.pages import Pages
from openegress.api.recordings import FILE_PATH, FILES_PATH, Find, Recordings
from openegress.api.room_events import PATH as ROOM_EVENTS_PATH
from openegress.api.room_events import RoomEvents
from openegress.api.twirp import TwirpMethod, TwirpService
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.storages import LocalStorage
from openegress.request.unknown import UnknownFields

MAX_BODY_BYTES = 256 * 1024
"""Limit for a body: far above any request of the API, even with GCP credentials. Decoding more would delay
other callers."""
CLOSE_TIMEOUT_S = 5.0
"""How long close() waits for calls in progress. A start takes longer only if no worker answers."""


@dataclass(frozen=True, slots=True)
class Listen:
    host: str = "127.0.0.1"
    port: int = 7980
    """The port to listen on; 0: any free port."""
    max_body_bytes: int = MAX_BODY_BYTES


class EgressMethods(Protocol):
    """A Twirp service; it need not have all methods of the Egress API."""

    def methods(self) -> Mapping[str, TwirpMethod]:
        """Twirp methods by name."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the server serves. Without `egress` it serves only pages and health."""

    keys: Mapping[str, str]
    """Secrets by API key."""
    egress: EgressMethods | None = None
    board: DashboardState = field(default_factory=DashboardState)
    health: Health = field(default_factory=Health)
    pages: Pages = field(default_factory=Pages)
    folders: Sequence[LocalStorage] = ()
    """The folders of this machine in which recordings are stored."""
    find: Find | None = None
    """Finds the records whose recordings are served; None: those that the dashboard shows."""
    control: EgressMethods | None = None
    room_events: RoomEvents | None = None
    unknown_fields: UnknownFields = UnknownFields.WARN


class ApiServer:
    """The server of one process. It is started once and closed once."""

    def __init__(self, listen: Listen, parts: Parts) -> None:
        self._listen = listen
        self._parts = parts
        offered = {SERVICE: parts.egress, CONTROL: parts.control}
        services = {name: part.methods() for name, part in offered.items() if part is not None}
        self._twirp = TwirpService(services, parts.keys, parts.unknown_fields)
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on; 0 before start()."""
        return self._port

    @property
    def url(self) -> str:
        host = self._listen.host
        if host in ("", "0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def start(self) -> None:
        """Starts listening. Raises EgressError if the port is not available."""
        runner = connections.Runner(self._app(), shutdown_timeout_s=CLOSE_TIMEOUT_S)
        await runner.setup()
        try:
            site = await connections.listen(runner, self._listen.host, self._listen.port)
        except OSError as error:
            await runner.cleanup()
            raise EgressError(
                Code.UNAVAILABLE,
                f"cannot listen on {self._listen.host}:{self._listen.port}: {error.strerror or error}; "
                "choose another --port or --host",
                fault=Fault.SERVICE,
            ) from None
        self._runner = runner
        self._port = _port_of(site)

    async def close(self) -> None:
        """Stops listening and waits for calls in progress. Idempotent."""
        self._parts.board.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            await self._twirp.close()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=self._listen.max_body_bytes)
        app.router.add_get("/healthz", self._parts.health.healthz)
        app.router.add_get("/readyz", self._parts.health.readyz)
        parts = self._parts
        app.router.add_get(EVENTS_PATH, Dashboard(parts.board, parts.keys).events)
        recordings = Recordings(parts.find or parts.board.find, parts.folders, parts.keys)
        app.router.add_get(FILES_PATH, recordings.files)
        app.router.add_get(FILE_PATH, recordings.file)
        if parts.room_events is not None:
            app.router.add_post(ROOM_EVENTS_PATH, parts.room_events.handle)
        app.router.add_route("*", "/{path:.*}", self._any)
        return app

    async def _any(self, request: web.Request) -> web.StreamResponse:
        if self._twirp.takes(request.path):
            return await self._twirp.handle(request)
        return await self._parts.pages.handle(request)


def _port_of(site: web.TCPSite) -> int:
    server = site._server
    assert isinstance(server, asyncio.Server)
    listening: socket.socket = server.sockets[0]
    port: int = listening.getsockname()[1]
    return port
