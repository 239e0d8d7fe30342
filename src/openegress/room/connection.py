"""One join of a room, from the websocket to its end: signalling, offers answered, the media transport.

A session that ends is never revived: the client makes another one.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from livekit.protocol.models import ClientConfigSetting, DisconnectReason
from livekit.protocol.rtc import (
    JoinResponse,
    LeaveRequest,
    SessionDescription,
    SignalResponse,
    SignalTarget,
    TrickleRequest,
)

from openegress.core import foreign_json
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.room.rtp.demux import Demux
from openegress.room.signalling import sdp
from openegress.room.signalling.enum_names import name_of
from openegress.room.signalling.websocket import Signalling
from openegress.room.transport.ice import turn_server
from openegress.room.transport.media import Transport

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""For ICE and DTLS, TCP and TURN included."""
OFFER_TIMEOUT_S = 5.0
"""The server offers the data channel as soon as one has joined."""
GOODBYE_AFTER_S = 3.0
"""How much later than the end of the media the server's last word may come: it sends them side by side, and a
busy machine has them far apart. Whoever joins again instead opens a room anew that was deleted."""
SILENCE_S = 7
"""While media flows, so much else does that after this long the path is not there."""
IDLE_SILENCE_S = 20
"""Where nothing is subscribed to there are only the answers to our own checks, some 5 s apart, and one may be
lost (RFC 7675)."""
RENEWAL_AFTER_S = 1
"""Without any RTP or RTCP, although tracks flow: a NAT on the way may have forgotten us. Where nobody speaks
a server's reports come every three seconds, and a check that was not needed costs nothing."""
ADDRESS_AFTER_S = 2
"""Without any datagram: our own address may be gone."""
MEDIA_SILENCE_S = 20
"""Without any RTP or RTCP, although tracks that are not muted flowed before."""
DEFAULT_PING_INTERVAL_S = 10
DEFAULT_PING_TIMEOUT_S = 30


class EndKind(Enum):
    LOST = "lost"
    """Join again."""
    OVER = "over"
    """The room ended, or the recorder was removed."""
    REPLACED = "replaced"
    """Somebody joined under our identity."""


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
    """False: media over TCP or TURN only, for hosts whose UDP is known to be closed."""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    insecure: bool = False
    """Any certificate of the server is accepted."""


class RoomConnection:
    """`on_join` gets the server's first word, before anything that it says after it; `on_message` what is not
    the session's own business; `on_offer` each offer before its answer."""

    def __init__(
        self,
        url: str,
        demux: Demux,
        *,
        on_join: Callable[[JoinResponse], None],
        on_message: Callable[[SignalResponse], None],
        on_offer: Callable[[sdp.Offer], None],
        flowing: Callable[[], bool],
        options: SessionOptions,
        make_transport: Callable[..., Transport] = Transport,
    ) -> None:
        self._signalling = Signalling(url, insecure=options.insecure)
        self._demux = demux
        self._on_join = on_join
        self._on_message = on_message
        self._on_offer = on_offer
        self._flowing = flowing
        self._options = options
        self._make_transport = make_transport
        self._transport: Transport | None = None
        self._candidates: list[str] = []
        self._early_candidates: list[str] = []
        self._answered = False
        self._ice_username = ""
        """Of the server, in its first offer."""
        self._tasks: list[asyncio.Task[None]] = []
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()
        self._ping_interval_s = float(DEFAULT_PING_INTERVAL_S)
        self._ping_timeout_s = float(DEFAULT_PING_TIMEOUT_S)
        self._heard_at = 0.0
        self._goodbye: asyncio.TimerHandle | None = None
        self.token = ""

    async def open(self, token: str) -> JoinResponse:
        """Joins; the media path comes up meanwhile (see up). Raises EgressError, everything closed."""
        self.token = token
        try:
            join = await self._signalling.open(token)
            self._on_join(join)
            await self._prepare(join)
        except BaseException:
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._read()))
        return join

    async def up(self) -> None:
        """The media path is up. Raises EgressError when it does not come up, everything closed."""
        try:
            try:
                async with asyncio.timeout(OFFER_TIMEOUT_S + self._options.connect_timeout_s):
                    await self._up
            except TimeoutError:
                raise _ice_error("the server made no offer for the media connection") from None
        except BaseException:
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._watch()))

    async def ended(self) -> SessionEnd:
        return await asyncio.shield(self._end)

    async def send(self, **message: object) -> None:
        await self._signalling.send(**message)

    async def leave(self) -> None:
        """Says goodbye, so that the server drops us at once."""
        await self._signalling.leave()

    async def close(self) -> None:
        """Idempotent. No packet is delivered after this."""
        self._finish(EndKind.LOST, "closed")
        if self._goodbye is not None:
            self._goodbye.cancel()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._up.done():
            self._up.cancel()
        elif not self._up.cancelled():
            self._up.exception()  # told by open already, or of no interest any more
        self._demux.disconnect()
        if self._transport is not None:
            await self._transport.close()
        await self._signalling.close()

    def batch_reads(self) -> None:
        """See Transport."""
        if self._transport is not None:
            self._transport.batch_reads()

    def read_at_once(self) -> None:
        """See Transport."""
        if self._transport is not None:
            self._transport.read_at_once()

    def drain(self) -> None:
        """See Transport."""
        if self._transport is not None:
            self._transport.drain()

    @property
    def path(self) -> str:
        return self._transport.path if self._transport else "none"

    # --- starting

    async def _prepare(self, join: JoinResponse) -> None:
        self._ping_interval_s = join.ping_interval or DEFAULT_PING_INTERVAL_S
        self._ping_timeout_s = join.ping_timeout or DEFAULT_PING_TIMEOUT_S
        self._transport = self._make_transport(
            on_rtp=self._demux.rtp,
            on_rtcp=self._demux.rtcp,
            on_lost=self._media_lost,
            loopback=self._signalling.loopback,
            turn=turn_server(
                [(tuple(each.urls), each.username, each.credential) for each in join.ice_servers]
            ),
            relay_only=join.client_configuration.force_relay == ClientConfigSetting.ENABLED,
            udp=self._options.udp,
        )
        self._demux.connect(self._transport.send_rtcp, self._transport.drain)
        self._candidates = await self._transport.gather()

    async def _connect(self, offer: sdp.Offer) -> None:
        assert self._transport is not None
        try:
            await self._transport.connect(
                offer.username,
                offer.password,
                offer.fingerprint,
                ice_lite=offer.ice_lite,
                timeout_s=self._options.connect_timeout_s,
                on_candidate=lambda line: self._tasks.append(asyncio.create_task(self._trickle(line))),
            )
        except EgressError as error:
            if not self._up.done():
                self._up.set_exception(error)
        else:
            if not self._up.done():
                self._up.set_result(None)

    # --- signalling

    async def _read(self) -> None:
        try:
            async for message in self._signalling.messages():
                self._heard_at = asyncio.get_running_loop().time()
                await self._handle(message)
            reason = f"the signalling connection was lost: {self._signalling.ended}"
        except Exception as error:
            logger.exception("a signalling message could not be handled")
            reason = f"a signalling message could not be handled: {error!r}"
        if not self._up.done():
            self._up.set_exception(
                EgressError(Code.UNAVAILABLE, reason, fault=Fault.SERVICE, phase=Phase.SIGNALLING)
            )
        self._finish(EndKind.LOST, reason)

    async def _handle(self, message: SignalResponse) -> None:
        match message.WhichOneof("message"):
            case "offer":
                await self._answer(message.offer)
            case "trickle":
                await self._candidate(message.trickle)
            case "leave":
                self._left(message.leave)
            case "refresh_token":
                self.token = message.refresh_token
            case "pong" | "pong_resp":
                pass
            case _:
                self._on_message(message)

    async def _answer(self, description: SessionDescription) -> None:
        transport = self._transport
        assert transport is not None
        offer = sdp.parse(description.sdp)
        if self._up.done() and offer.username != self._ice_username:
            # The path in use is dead from here on, and ours cannot be restarted (see ice).
            self._finish(EndKind.LOST, "the server restarted ICE")
            return
        self._on_offer(offer)
        text = sdp.answer(offer, transport.username, transport.password, transport.fingerprint)
        await self.send(answer=SessionDescription(type="answer", sdp=text, id=description.id))
        for line in offer.candidates:
            await transport.add_candidate(line)
        if self._answered:
            return
        self._answered = True
        self._ice_username = offer.username
        for line in self._early_candidates:
            await transport.add_candidate(line)
        self._tasks.append(asyncio.create_task(self._connect(offer)))
        for line in self._candidates:
            await self._trickle(line)

    async def _trickle(self, line: str) -> None:
        init = json.dumps({"candidate": line, "sdpMLineIndex": 0, "sdpMid": "0"})
        await self.send(trickle=TrickleRequest(candidateInit=init, target=SignalTarget.SUBSCRIBER))

    async def _candidate(self, trickle: TrickleRequest) -> None:
        if trickle.target != SignalTarget.SUBSCRIBER:
            return
        line = str(foreign_json.loads(trickle.candidateInit).get("candidate", ""))
        if not line:
            return
        if self._answered and self._transport is not None:
            await self._transport.add_candidate(line)
        else:
            self._early_candidates.append(line)

    def _left(self, leave: LeaveRequest) -> None:
        reason = name_of(DisconnectReason, leave.reason)
        kind = FINAL.get(leave.reason, EndKind.LOST)
        if leave.action != LeaveRequest.Action.DISCONNECT:
            kind = EndKind.LOST
        self._finish(kind, f"the server said goodbye: {reason}")

    # --- watching

    async def _watch(self) -> None:
        """The heartbeat: reports and pings out, and notice when nothing comes in."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._heard_at = pinged_at = loop.time()
        datagrams = packets = -1
        quiet_s = media_quiet_s = 0
        while True:
            await asyncio.sleep(1)
            self._demux.tick()
            now = loop.time()
            if now - pinged_at >= self._ping_interval_s:
                pinged_at = now
                await self._signalling.ping()
            if now - self._heard_at > self._ping_interval_s + self._ping_timeout_s:
                self._finish(EndKind.LOST, f"no signalling message for {now - self._heard_at:.0f} s")
            quiet_s = quiet_s + 1 if self._transport.datagrams == datagrams else 0
            datagrams = self._transport.datagrams
            flowing = self._flowing()
            if quiet_s >= ADDRESS_AFTER_S and self._transport.is_address_gone():
                self._finish(EndKind.LOST, "this host has lost the address that media came to")
            if quiet_s >= (SILENCE_S if flowing else IDLE_SILENCE_S):
                self._finish(EndKind.LOST, f"no packet from the server for {quiet_s} s")
            media_quiet_s = media_quiet_s + 1 if self._demux.packets == packets and flowing else 0
            packets = self._demux.packets
            if media_quiet_s >= RENEWAL_AFTER_S:
                self._transport.renew()
            if media_quiet_s >= MEDIA_SILENCE_S:
                self._finish(EndKind.LOST, f"no media from the server for {media_quiet_s} s")

    def _media_lost(self, reason: str) -> None:
        """A server that means it says so on the websocket too, which may come a moment later."""
        self._goodbye = asyncio.get_running_loop().call_later(
            GOODBYE_AFTER_S, self._finish, EndKind.LOST, reason
        )

    def _finish(self, kind: EndKind, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(SessionEnd(kind, reason))


def _ice_error(message: str) -> EgressError:
    return EgressError(Code.UNAVAILABLE, message, fault=Fault.SERVICE, phase=Phase.ICE)
