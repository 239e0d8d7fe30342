"""The recorder's membership in a room: it joins, keeps the connection, and joins again after a loss."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from openegress.core.errors import EgressError, Phase, internal
from openegress.core.tasks import cancelled
from openegress.room.connection import (
    ConnectionListener,
    RoomConnection,
    SessionEnd,
    SessionOptions,
)
from openegress.room.demux import Demux
from openegress.room.events import ConnectionLost, EndKind, Reconnected, RoomClosed, RoomEvent
from openegress.room.rejoin import Rejoin
from openegress.room.transport.media import Transport

_log = logging.getLogger(__name__)


class MembershipListener(ConnectionListener, Protocol):
    """Is notified of what happens to the membership."""

    def emit(self, event: RoomEvent) -> None:
        """Takes ConnectionLost, Reconnected or RoomClosed."""

    def on_end(self) -> None:
        """Called when no packet will arrive any more."""

    async def on_open_again(self) -> None:
        """Called when there is a new connection, without subscriptions."""

    def on_joined_again(self) -> None:
        """Called when the media path of the new connection is up."""


@dataclass(frozen=True, slots=True)
class MembershipOptions:
    session: SessionOptions
    rejoin_for_s: float
    make_transport: Callable[..., Transport]


class Membership:
    """One recorder in one room, over one connection after the other."""

    def __init__(
        self,
        url: str,
        token: str,
        demux: Demux,
        listener: MembershipListener,
        options: MembershipOptions,
    ) -> None:
        self._url = url
        self._token = token
        self._demux = demux
        self._listener = listener
        self._options = options
        self._connection: RoomConnection | None = None
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Set when the media path of the first join is up."""
        self._supervisor: asyncio.Task[None] | None = None
        self._batches_reads = False

    @property
    def connection(self) -> RoomConnection | None:
        """The current connection; None while it is lost."""
        return self._connection

    async def join(self) -> None:
        """Joins the room. Raises EgressError with phase SIGNALLING, the address tried and the cause."""
        if self._supervisor is not None:
            raise RuntimeError("a RoomClient joins once")
        connection = await self._open()
        self._supervisor = asyncio.create_task(self._supervise(connection))

    async def connected(self) -> None:
        """Waits for the media path. Raises EgressError with phase ICE or SIGNALLING, what was tried and the
        cause."""
        await asyncio.shield(self._connected)

    async def send(self, **message: object) -> None:
        """Sends a signal, unless the connection is lost: the listener requests again on the next
        connection."""
        if self._connection is not None:
            await self._connection.send(**message)

    def batch_reads(self) -> None:
        """Reads media in batches, on later connections too."""
        self._batches_reads = True
        if self._connection is not None:
            self._connection.batch_reads()

    def drain(self) -> None:
        if self._connection is not None:
            self._connection.drain()

    async def stop_watching(self) -> None:
        """Stops replacing lost connections."""
        await cancelled(self._supervisor)
        if not self._connected.cancel() and not self._connected.cancelled():
            self._connected.exception()  # nobody waits for it any more

    async def leave(self) -> None:
        if self._connection is not None:
            await self._connection.leave()
            await self._connection.close()

    @property
    def path(self) -> str:
        """The path of the media, for logs: `udp host -> address:port`."""
        return self._connection.path if self._connection else "none"

    async def _open(self) -> RoomConnection:
        connection = RoomConnection(
            self._url,
            self._demux,
            self._listener,
            options=self._options.session,
            make_transport=self._options.make_transport,
        )
        await connection.open(self._token)
        self._connection = connection
        return connection

    async def _supervise(self, connection: RoomConnection) -> None:
        """Owns the connection from the join to the end of the room, and reports that end whatever happens."""
        try:
            await self._follow(connection)
        except Exception as error:
            _log.exception("the room client failed")
            text = f"the room client failed: {error!r}"
            if not self._connected.done():
                self._connected.set_exception(internal(text, Phase.SIGNALLING))
            self._listener.emit(RoomClosed(text, EndKind.LOST))

    async def _follow(self, connection: RoomConnection) -> None:
        try:
            await self._up(connection)
        except EgressError as error:
            self._connected.set_exception(error)
            return
        self._connected.set_result(None)
        while True:
            assert self._connection is not None
            end = await self._connection.ended()
            self._token = self._connection.token
            connection, self._connection = self._connection, None
            await connection.close()
            if end.kind is not EndKind.LOST:
                self._listener.on_end()
                self._listener.emit(RoomClosed(end.reason, end.kind))
                return
            if not await self._rejoin(end):
                return

    async def _rejoin(self, end: SessionEnd) -> bool:
        """Joins again. Returns False if it has given up, and reported that."""
        loop = asyncio.get_running_loop()
        rejoin = Rejoin(loop.time(), self._options.rejoin_for_s)
        _log.warning("connection to the room lost: %s", end.reason)
        self._listener.emit(ConnectionLost(end.reason))
        while True:
            await asyncio.sleep(rejoin.next_pause_s())
            try:
                await self._open_again()
            except EgressError as error:
                if rejoin.gives_up(error, loop.time()):
                    _log.error("cannot join again: %s", error.text)
                    text = f"{end.reason}; cannot join again: {error.text}"
                    self._listener.emit(RoomClosed(text, EndKind.LOST))
                    return False
                _log.info("try %d to join again failed: %s", rejoin.tries, error.text)
                continue
            break
        self._listener.on_joined_again()
        after_s = rejoin.after_s(loop.time())
        _log.info("joined again after %.2f s", after_s)
        self._listener.emit(Reconnected(after_s))
        return True

    async def _open_again(self) -> None:
        connection = await self._open()
        await self._listener.on_open_again()
        await self._up(connection)
        if self._batches_reads:
            connection.batch_reads()

    async def _up(self, connection: RoomConnection) -> None:
        try:
            await connection.up()
        except EgressError:
            self._connection = None
            raise
