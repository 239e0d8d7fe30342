"""ICE (RFC 8445) for a receiver, on aioice: our own sockets, a direct path for media, TCP and TURN.

aioice has no public place for a socket buffer size, loopback addresses, ICE-TCP (RFC 6544) or a path
without a queue. The private names of aioice used for that are all in this module, and
tests/unit/test_room_connection.py fails when one of them moves.

What aioice cannot do: restart ICE (the client joins again instead), use more than one TURN server, or
TCP candidates behind a TURN server.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, Connection, StunProtocol, relayed_candidate
from aioice.stun import Message, TransactionError

from openegress.core.tasks import cancelled
from openegress.room.transport.udp import BatchedUdp

_log = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES = 4 << 20
"""Two seconds of 2 Mbit/s and more: survives a blocked event loop, or a burst of key frames."""
ACCEPTABLE_BUFFER_BYTES = 1 << 20
TURN_TIMEOUT_S = 5
TCP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class TurnServer:
    host: str
    port: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    transport: str
    """udp or tcp."""
    tls: bool


class _Protocol(StunProtocol):
    """Tells STUN from the rest by the first byte (RFC 7983), without trying to parse media as STUN."""

    def __init__(self, receiver: Connection) -> None:
        super().__init__(receiver)
        self.peers: set[tuple[str, int]] = set()
        """Addresses that have answered a check of ours over this socket."""

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Over TCP or a relay, each datagram is read as it comes."""
        self.datagram_arrived(cast(bytes, data), addr, time.monotonic_ns())

    def datagram_arrived(self, data: bytes, address: tuple[Any, ...], arrival_ns: int) -> None:
        """See udp.DatagramReader."""
        if not data:
            return
        if data[0] < 4:
            try:
                super().datagram_received(data, address)
            except struct.error:
                pass  # aioice expects a ValueError only for an attribute that is too short
        elif (address[0], address[1]) in self.peers:
            cast("IceConnection", self.receiver).on_data(data, arrival_ns)

    async def request(
        self,
        request: Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[Message, tuple[str, int]]:
        """aioice passes on only an answer that is signed with the key."""
        answer = await super().request(request, addr, integrity_key, retransmissions)
        cast("IceConnection", self.receiver).checks += 1
        return answer


class _TcpTransport:
    """A connected TCP stream in the shape of a datagram transport, framed by RFC 4571."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def sendto(self, data: bytes, addr: object = None) -> None:
        if not self._writer.is_closing():
            self._writer.write(struct.pack("!H", len(data)) + data)

    def close(self) -> None:
        self._writer.close()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._writer.get_extra_info(name, default)


class IceConnection(Connection):
    """One ICE session with one component.

    `on_data` gets every datagram that is not STUN from a peer that has answered a check (RFC 8445 section
    7.2.5.3), with its time of arrival in monotonic ns, and nothing from anybody else. `on_lost` gets a line
    of text when the path in use is gone.
    """

    def __init__(
        self,
        *,
        on_data: Callable[[bytes, int], None],
        on_lost: Callable[[str], None],
        loopback: bool,
        turn: TurnServer | None = None,
        udp: bool = True,
    ) -> None:
        super().__init__(
            ice_controlling=False,
            turn_server=(turn.host, turn.port) if turn else None,
            turn_username=turn.username if turn else None,
            turn_password=turn.password if turn else None,
            turn_ssl=turn.tls if turn else False,
            turn_transport=turn.transport if turn else "udp",
        )
        self.on_data = on_data
        self.checks = 0
        """Authenticated checks and answers to checks so far: only a peer with the password can send them."""
        self.buffer_bytes = 0
        self._on_lost = on_lost
        self._loopback = loopback
        self._udp = udp
        self._sockets: list[BatchedUdp] = []
        self._tcp_readers: list[asyncio.Task[None]] = []
        self._renewal: asyncio.Task[None] | None = None

    # --- candidates

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = TURN_TIMEOUT_S
    ) -> list[Candidate]:
        """Called by gather_candidates: host candidates only. TURN is for add_relay."""
        if not self._udp:
            return []
        candidates = []
        for address in [*addresses, *(["127.0.0.1"] if self._loopback else [])]:
            try:
                candidates.append(self._bind(address, component))
            except OSError as error:
                _log.info("no candidate on %s: %s", address, error)
        return candidates

    def _bind(self, address: str, component: int) -> Candidate:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            # Linux reports twice what it grants.
            self.buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            sock.bind((address, 0))
            protocol = _Protocol(self)
            self._sockets.append(BatchedUdp(sock, protocol))
        except OSError:
            sock.close()
            raise
        host, port = sock.getsockname()[:2]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host"),
            host=host,
            port=port,
            type="host",
        )
        self._protocols.append(protocol)
        return protocol.local_candidate

    async def add_relay(self) -> list[Candidate]:
        """Allocates on the TURN server and pairs the relayed candidate, which must be signalled.

        Empty without a TURN server, or if it refused.
        """
        if self.turn_server is None:
            return []
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                relayed, protocol = await relayed_candidate(
                    component=1,
                    hide_related_address=False,
                    # Our protocol, so that data over the relay counts and is sorted like data of any socket.
                    protocol_factory=lambda: _Protocol(self),
                    turn_server=self.turn_server,
                    turn_username=self.turn_username,
                    turn_password=self.turn_password,
                    turn_ssl=self.turn_ssl,
                    turn_transport=self.turn_transport,
                )
        except (OSError, TransactionError) as error:
            _log.info("no relayed candidate from %s:%d: %s", *self.turn_server, str(error) or "no answer")
            return []
        self._protocols.append(protocol)
        self._local_candidates.append(relayed)
        for candidate in self._remote_candidates:
            self._pair_remote_candidate(candidate)
        self.sort_check_list()
        return [relayed]

    async def add_tcp(self, remote: Candidate) -> None:
        """Connects to a passive TCP candidate and presents the connection to aioice as one more socket.

        Raises OSError or TimeoutError.
        """
        async with asyncio.timeout(TCP_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(remote.host, remote.port)
        protocol = _Protocol(self)
        protocol.connection_made(cast(asyncio.BaseTransport, _TcpTransport(writer)))
        host = writer.get_extra_info("sockname")[0]
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "tcp", host),
            component=1,
            transport="tcp",
            priority=candidate_priority(1, "host", 8191),
            host=host,
            port=9,
            type="host",
            tcptype="active",
        )
        self._protocols.append(protocol)
        self._local_candidates.append(protocol.local_candidate)
        peer = (remote.host, remote.port)
        self._tcp_readers.append(asyncio.create_task(self._read_tcp(reader, protocol, peer)))
        await self.add_remote_candidate(remote)

    async def _read_tcp(
        self, reader: asyncio.StreamReader, protocol: _Protocol, peer: tuple[str, int]
    ) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                protocol.datagram_received(await reader.readexactly(length), peer)
        except (asyncio.IncompleteReadError, OSError) as error:
            protocol.connection_lost(error)
        except asyncio.CancelledError:
            protocol.connection_lost(None)

    # --- checks

    def check_complete(self, pair: CandidatePair) -> None:
        if pair.state is CandidatePair.State.SUCCEEDED:
            cast(_Protocol, pair.protocol).peers.add(pair.remote_addr)
        super().check_complete(pair)

    def check_incoming(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Called by aioice with checks that are signed with our password."""
        self.checks += 1
        super().check_incoming(message, addr, protocol)

    def renew(self) -> None:
        """Nominates the current path again, so that the server sends to the address from which it now sees
        us.

        A NAT that forgot us gives us another one, and a server with ICE-lite changes to it only by a check
        with USE-CANDIDATE (RFC 8445 section 7.3.1.5). aioice's own consent checks do not have it.
        """
        pair = self._nominated.get(1)
        if pair is not None and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew(pair), name="ICE renewal")

    async def _renew(self, pair: CandidatePair) -> None:
        assert self.remote_password is not None
        key = self.remote_password.encode()
        request = self.build_request(pair, nominate=True)
        with contextlib.suppress(TransactionError):  # without an answer there will be another one
            await pair.protocol.request(request, pair.remote_addr, integrity_key=key, retransmissions=0)

    def is_address_gone(self) -> bool:
        """Whether this host has lost the address at which the path in use arrives."""
        pair = self._nominated.get(1)
        if pair is None or pair.local_candidate.type != "host":
            return False
        host = pair.local_candidate.host
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, 0))
            except OSError as error:
                return error.errno == errno.EADDRNOTAVAIL
        return False

    # --- data

    def data_received(self, data: bytes, component: int) -> None:
        """Data that begins like STUN but is not STUN. aioice would queue it for a reader that does not
        exist."""

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if any(pair.protocol is protocol for pair in self._nominated.values()):
            self._on_lost("the connection that carried the media was closed")

    def batch_reads(self) -> None:
        """Nobody waits for data any more: UDP is read a few times a second."""
        for each in self._sockets:
            each.batch_reads()

    def hasten(self) -> None:
        """See BatchedUdp."""
        for each in self._sockets:
            each.hasten()

    def drain(self) -> None:
        """Hands out the UDP data that has arrived so far."""
        for each in self._sockets:
            each.drain()

    def send_now(self, data: bytes) -> bool:
        """Sends without a task; False when no path is up yet."""
        pair = self._nominated.get(1)
        if pair is None:
            return False
        pair.protocol.transport.sendto(data, pair.remote_addr)
        return True

    @property
    def connected(self) -> bool:
        return 1 in self._nominated

    def path(self) -> str:
        """The path in use, for logs: `udp host -> address:port`."""
        pair = self._nominated.get(1)
        if pair is None:
            return "none"
        local = pair.local_candidate
        return f"{local.transport} {local.type} -> {pair.remote_addr[0]}:{pair.remote_addr[1]}"

    def tried(self) -> str:
        """The pairs that were tried and the result of each, for an error's text."""
        lines = [
            f"{pair.local_candidate.transport} {pair.local_addr[0]} -> "
            f"{pair.remote_addr[0]}:{pair.remote_addr[1]} {pair.state.name.lower().replace('_', ' ')}"
            for pair in self._check_list
        ]
        return ", ".join(lines) or "no pair of addresses could be formed"

    async def close(self) -> None:
        await super().close()
        await cancelled(*self._tcp_readers, self._renewal)


def turn_server(urls: Sequence[tuple[Sequence[str], str, str]]) -> TurnServer | None:
    """The first usable TURN server of (urls, username, credential) as join.ice_servers gives them.

    UDP before TLS before TCP (RFC 7065 URIs); STUN servers are of no use to a receiver whose server has
    a public address.
    """
    found: list[TurnServer] = []
    for addresses, username, credential in urls:
        for url in addresses:
            scheme, _, rest = url.partition(":")
            if scheme not in ("turn", "turns"):
                continue
            address, _, query = rest.partition("?")
            host, _, port = address.rpartition(":")
            if not host or not (port.isascii() and port.isdigit() and len(port) <= 5):
                host, port = address, "5349" if scheme == "turns" else "3478"
            transport = "tcp" if scheme == "turns" or "transport=tcp" in query else "udp"
            found.append(
                TurnServer(host.strip("[]"), int(port), username, credential, transport, scheme == "turns")
            )
    found.sort(key=lambda server: (server.transport != "udp", not server.tls))
    return found[0] if found else None
