"""Limits the number of HTTP connections, so that the process never runs out of file descriptors.

A new connection (a health check, a caller with a token) is always accepted. If there are too many, the oldest
one without an authorised request is closed. Authorised requests may hold at most half of the connections, so
that callers with a token cannot lock out others either. Idle connections of authorised callers are closed
last: a request on a closed connection is lost, and clients do not repeat a POST by themselves.
"""

import asyncio
import os
import resource
import socket
from typing import Any
from weakref import WeakSet

from aiohttp import web

from openegress.core.errors import Code, EgressError

IDLE_S = 30.0
"""Time-out for receiving the headers of a request, from the start of the connection or the previous answer.
Proxies keep connections for a minute and open new ones easily."""
LINGER_S = 2.0
"""How long the rest of a refused body is read and discarded, so that its sender reads the answer."""
DESCRIPTOR_SHARE = 6
"""The part of the process's file descriptors that each of up to three ports gets: one sixth. Recordings,
storage and Redis get the rest."""
MAX_CONNECTIONS = 4096
ACCEPT_BATCH = 4
"""Limit for connections accepted in one turn of the event loop, which need descriptors beyond `most`. A
request takes six turns; in a flood, a new connection becomes the oldest after ten at the earliest."""
BACKLOG = 1024
"""Length of the system's queue of connections that are not accepted yet. It drops further ones, whose callers
try again after a second."""

_TRUSTED = web.RequestKey("trusted", bool)
_CALLERS: WeakSet[asyncio.BaseTransport] = WeakSet()
"""Connections that have carried an authorised request."""


def max_connections() -> int:
    """The number of connections that one port may have, by the current limit of file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS
        if soft == resource.RLIM_INFINITY
        else max(8, min(MAX_CONNECTIONS, soft // DESCRIPTOR_SHARE))
    )


def trust(request: web.Request) -> None:
    """Marks the request as authorised, so that its connection is not closed to make room. Raises EgressError
    (RESOURCE_EXHAUSTED) if too many authorised requests are in progress."""
    server, most_busy = request.protocol._manager, max_connections() // 2
    handlers = server.connections if server is not None else []
    if len(handlers) > most_busy and sum(map(_is_trusted, _connected(handlers))) >= most_busy:
        raise EgressError(
            Code.RESOURCE_EXHAUSTED, f"{most_busy} requests are under way; end some, or try again later"
        )
    request[_TRUSTED] = True
    if request.transport is not None:
        _CALLERS.add(request.transport)


class _Server(web.Server):
    """aiohttp's server with a limit on its connections."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if (
            len(self.connections) > max_connections()
            and len(connected := _connected(self.connections)) > max_connections()
        ):
            self._make_room(connected)

    def _make_room(self, connected: list[Any]) -> None:
        callers: list[asyncio.Transport] = []
        for handler in connected[:-1]:  # oldest first; the new connection stays
            transport = handler.transport
            if transport is None or transport.is_closing() or _is_trusted(handler):
                continue
            if transport in _CALLERS:
                callers.append(transport)
                continue
            transport.abort()
            return
        if callers:
            callers[0].abort()


def _connected(handlers: list[Any]) -> list[Any]:
    """Handlers that still have a connection. A feed notices only at its next write that its peer is gone."""
    return [each for each in handlers if each.transport is not None]


def _is_trusted(handler: Any) -> bool:
    # aiohttp has no public way to ask which request a connection serves.
    request = handler._current_request
    return request is not None and bool(request.get(_TRUSTED))


async def listen(runner: web.AppRunner, host: str, port: int) -> web.TCPSite:
    """Starts accepting connections. Raises OSError."""
    site = web.TCPSite(runner, host or None, port, backlog=ACCEPT_BATCH)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    for listening in server.sockets:
        # asyncio uses one number for the accept loop and the system's queue; this changes only the queue.
        with socket.socket(fileno=os.dup(listening.fileno())) as same:
            same.listen(BACKLOG)
    return site


class Runner(web.AppRunner):
    """aiohttp's runner with the settings that all ports of this service share."""

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float = 60.0) -> None:
        super().__init__(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=shutdown_timeout_s,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            # api.bodies decompresses bodies after the caller is authorised.
            auto_decompress=False,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)
