"""One join of a room, from the websocket to its end: signalling, the media path, and whether both are alive.

A connection that has ended is never revived: the client makes another one.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from livekit.protocol.models import ClientConfigSetting, DisconnectReason
from livekit.protocol.rtc import JoinResponse, LeaveRequest, SessionDescription, SignalResponse

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.tasks import cancelled
from openegress.room.demux import Demux
from openegress.room.events import EndKind
from openegress.room.liveness import Liveness, PathCounts
from openegress.room.media_path import MediaPath
from openegress.room.signalling import sdp
from openegress.room.signalling.enum_names import name_of
from openegress.room.signalling.websocket import Signalling
from openegress.room.transport.data_channels import DataChannels
from openegress.room.transport.ice import turn_server
from openegress.room.transport.media import Transport

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""Time-out for ICE and DTLS, TCP and TURN included."""
GOODBYE_AFTER_S = 3.0
"""Time by which the server's last message may arrive after the end of the media. The two are sent in
parallel, and may arrive far apart on a busy machine. Joining again immediately would open a deleted room
again."""


@dataclass(frozen=True, slots=True)
class SessionEnd:
    kind: EndKind
    reason: str


FINAL: dict[int, EndKind] = {
    DisconnectReason.ROOM_DELETED: EndKind.OVER,
    DisconnectReason.ROOM_CLOSED: EndKind.OVER,
    DisconnectReason.PARTICIPANT_REMOVED: EndKind.OVER,
    DisconnectReason.DUPLICATE_IDENTITY: EndKind.REPLACED,
}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    udp: bool = True
    """False: media over TCP or TURN only, for hosts whose UDP is known to be blocked."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    insecure: bool = False
    """Accepts any certificate of the server."""
    data: bool = False
    """Also receives what participants send over data channels."""
    data_tracks: bool = False
    """Also receives data tracks, if `data` is set."""


class ConnectionListener(Protocol):
    """Receives what the server says."""

    def on_join(self, join: JoinResponse) -> None:
        """The server's first message, before all others."""

    def on_message(self, message: SignalResponse) -> None:
        """Handles a message that the connection does not handle itself."""

    def on_data(self, message: bytes, arrival_ns: int) -> None:
        """A message of a data channel: a DataPacket. Monotonic ns."""

    def on_data_track(self, packet: bytes, arrival_ns: int) -> None:
        """A packet of a data track. Monotonic ns."""

    def on_offer(self, offer: sdp.Offer) -> None:
        """Handles an offer before it is answered."""

    def expects_media(self) -> bool:
        """Whether packets should be arriving."""


class RoomConnection:
    def __init__(
        self,
        url: str,
        demux: Demux,
        listener: ConnectionListener,
        *,
        options: SessionOptions,
        make_transport: Callable[..., Transport] = Transport,
    ) -> None:
        self._signalling = Signalling(url, insecure=options.insecure)
        self._demux = demux
        self._listener = listener
        self._options = options
        self._make_transport = make_transport
        self._path: MediaPath | None = None
        self._channels: DataChannels | None = None
        self._sctp_port: int | None = None
        self._liveness = Liveness(0, 0)
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()
        self._goodbye: asyncio.TimerHandle | None = None
        self.token = ""

    async def open(self, token: str) -> None:
        """Joins; the media path comes up meanwhile (see up). Raises EgressError, with everything closed."""
        self.token = token
        try:
            join = await self._signalling.open(token)
            self._listener.on_join(join)
            await self._prepare(join)
        except BaseException:
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._read()))

    async def up(self) -> None:
        """Waits for the media path. Raises EgressError, with everything closed, when it does not come up."""
        path = self._opened_path
        try:
            await path.up()
        except BaseException:
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._watch(path.transport)))
        self._start_channels()

    async def ended(self) -> SessionEnd:
        return await asyncio.shield(self._end)

    async def send(self, **message: object) -> None:
        await self._signalling.send(**message)

    async def leave(self) -> None:
        """Says goodbye, so that the server removes us at once."""
        await self._signalling.leave()

    async def close(self) -> None:
        """Idempotent. No packet is delivered after this."""
        self._finish(EndKind.LOST, "closed")
        self.drain()
        if self._goodbye is not None:
            self._goodbye.cancel()
        tasks, self._tasks = self._tasks, []
        await cancelled(*tasks)
        if self._channels is not None:
            await self._channels.close()
        if self._path is not None:
            await self._path.close()
        await self._signalling.close()

    def batch_reads(self) -> None:
        """See Transport."""
        if self._path is not None:
            self._path.transport.batch_reads()

    def drain(self) -> None:
        """See Transport."""
        if self._path is not None:
            self._path.transport.drain()

    @property
    def path(self) -> str:
        return self._path.transport.path if self._path else "none"

    @property
    def _opened_path(self) -> MediaPath:
        assert self._path is not None
        return self._path

    async def _prepare(self, join: JoinResponse) -> None:
        self._liveness = Liveness(join.ping_interval, join.ping_timeout)
        transport = self._make_transport(
            on_rtp=self._demux.rtp,
            on_rtcp=self._demux.rtcp,
            on_lost=self._media_lost,
            on_data=self._take_data if self._options.data else None,
            loopback=self._signalling.loopback,
            turn=turn_server(
                [(tuple(each.urls), each.username, each.credential) for each in join.ice_servers]
            ),
            relay_only=join.client_configuration.force_relay == ClientConfigSetting.ENABLED,
            udp=self._options.udp,
        )
        timeout_s = self._options.connect_timeout_s
        self._path = MediaPath(transport, self._demux, self._signalling, timeout_s)
        await self._path.gather()

    # --- signalling

    async def _read(self) -> None:
        try:
            async for message in self._signalling.messages():
                self._liveness.heard(asyncio.get_running_loop().time())
                await self._handle(message)
            reason = f"the signalling connection was lost: {self._signalling.ended}"
        except Exception as error:
            _log.exception("a signalling message could not be handled")
            reason = f"a signalling message could not be handled: {error!r}"
        self._opened_path.fail(
            EgressError(Code.UNAVAILABLE, reason, fault=Fault.SERVICE, phase=Phase.SIGNALLING)
        )
        self._finish(EndKind.LOST, reason)

    async def _handle(self, message: SignalResponse) -> None:
        # If the message ends a track, the media that has arrived is taken first.
        self.drain()
        match message.WhichOneof("message"):
            case "offer":
                await self._answer(message.offer)
            case "trickle":
                await self._opened_path.add_candidate(message.trickle)
            case "leave":
                self._left(message.leave)
            case "refresh_token":
                self.token = message.refresh_token
            case "pong" | "pong_resp":
                pass
            case _:
                self._listener.on_message(message)

    async def _answer(self, description: SessionDescription) -> None:
        offer = sdp.parse(description.sdp)
        if self._opened_path.is_restarted_by(offer):
            self._finish(EndKind.LOST, "the server restarted ICE")
            return
        self._listener.on_offer(offer)
        self._sctp_port = self._sctp_port or offer.sctp_port
        self._start_channels()
        await self._opened_path.answer(offer, description.id)

    # --- data

    def _start_channels(self) -> None:
        """Starts the data channels once the path is up and an offer has them."""
        path = self._path
        if path is None or not path.is_up or not self._options.data or self._channels is not None:
            return
        if self._sctp_port is not None:
            self._channels = DataChannels(
                path.transport.send_data, self._listener.on_data, self._listener.on_data_track
            )
            self._channels.start(self._sctp_port)

    def _take_data(self, packet: bytes, arrival_ns: int) -> None:
        if self._channels is not None:
            self._channels.received(packet, arrival_ns)

    def _left(self, leave: LeaveRequest) -> None:
        reason = name_of(DisconnectReason, leave.reason)
        kind = FINAL.get(leave.reason, EndKind.LOST)
        if leave.action != LeaveRequest.Action.DISCONNECT:
            kind = EndKind.LOST
        self._finish(kind, f"the server said goodbye: {reason}")

    # --- watching

    async def _watch(self, transport: Transport) -> None:
        """The heartbeat: sends reports and pings, and notices when nothing arrives."""
        loop = asyncio.get_running_loop()
        self._liveness.begin(loop.time())
        while True:
            await asyncio.sleep(1)
            self._demux.tick()
            now_s = loop.time()
            if self._liveness.takes_ping(now_s):
                await self._signalling.ping()
            lost = self._liveness.look(
                now_s,
                PathCounts(transport.datagrams, self._demux.packets),
                expects_media=self._listener.expects_media(),
                is_address_gone=transport.is_address_gone,
            )
            if self._liveness.needs_renewal:
                transport.renew()
            if lost is not None:
                self._finish(EndKind.LOST, lost)

    def _media_lost(self, reason: str) -> None:
        """A server that ends the media on purpose also says so on the websocket, perhaps a moment later."""
        self._goodbye = asyncio.get_running_loop().call_later(
            GOODBYE_AFTER_S, self._finish, EndKind.LOST, reason
        )

    def _finish(self, kind: EndKind, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(SessionEnd(kind, reason))
