"""Who is connected: never so many that the process runs out of descriptors, and nobody for nothing.

When there are too many, the one that has been there longest without a caller of ours makes room, so that a
newcomer (a health check, a caller with a token) is always let in. At most half of them are at a caller's
request: who has a token cannot keep the others out either. A connection that a caller keeps for the
next request goes only where there are no others: a request that meets a closed one is lost, and clients
repeat no POST by themselves.
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
"""Until the headers of a request are whole, counted from the connection's begin or the answer before:
proxies keep connections for a minute and open another without ado."""
LINGER_S = 2.0
"""How long the rest of a body that nobody wants is thrown away, so that its sender reads the answer."""
SHARE = 6
"""One in so many of the descriptors the process may have, for each of up to three ports: recordings, storage
and Redis get the others."""
MOST = 4096
AT_ONCE = 4
"""Connections taken in one turn of the event loop. So many descriptors are needed beside those of `most`; and
a newcomer has ten turns, of which a request takes six, before a flood makes it the oldest."""
WAITING = 1024
"""Connections that the system keeps for the turns after that; it drops what comes beyond, and a caller who
was dropped tries again a second later."""

_TRUSTED = web.RequestKey("trusted", bool)
_CALLERS: WeakSet[asyncio.BaseTransport] = WeakSet()
"""Connections that a request of a caller came by."""


def most() -> int:
    """How many may be connected at a time, by the limit of descriptors as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(8, min(MOST, soft // SHARE))


def trust(request: web.Request) -> None:
    """The request is of a caller who may: it does not make room for strangers. Raises EgressError,
    RESOURCE_EXHAUSTED, where as many are under way as may be."""
    server, most_busy = request.protocol._manager, most() // 2
    handlers = server.connections if server is not None else []
    if len(handlers) > most_busy and sum(map(_is_trusted, _connected(handlers))) >= most_busy:
        raise EgressError(
            Code.RESOURCE_EXHAUSTED, f"{most_busy} requests are under way; end some, or try again later"
        )
    request[_TRUSTED] = True
    if request.transport is not None:
        _CALLERS.add(request.transport)


class _Server(web.Server):
    """aiohttp's, with a bound on its connections."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > most() and len(connected := _connected(self.connections)) > most():
            self._make_room(connected)

    def _make_room(self, connected: list[Any]) -> None:
        callers: list[asyncio.Transport] = []
        for handler in connected[:-1]:  # those that came first, first; the newcomer stays
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
    """Without those whose other side is gone, and which have yet to notice: a feed does when it writes."""
    return [each for each in handlers if each.transport is not None]


def _is_trusted(handler: Any) -> bool:
    # aiohttp tells nobody else which request a connection is at.
    request = handler._current_request
    return request is not None and bool(request.get(_TRUSTED))


async def listen(runner: web.AppRunner, host: str, port: int) -> web.TCPSite:
    """Begins to take connections. Raises OSError."""
    site = web.TCPSite(runner, host or None, port, backlog=AT_ONCE)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    for listening in server.sockets:
        # asyncio has one number for both: this is the system's alone.
        with socket.socket(fileno=os.dup(listening.fileno())) as same:
            same.listen(WAITING)
    return site


class Runner(web.AppRunner):
    """Of every port this service listens on."""

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float = 60.0) -> None:
        super().__init__(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=shutdown_timeout_s,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            # Bodies are unpacked by api.bodies, once it is known who sends them.
            auto_decompress=False,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)
