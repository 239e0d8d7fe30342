"""A UDP relay on loopback that does to datagrams what networks do: loses, delays, reorders, narrows, cuts.

It stands in front of a livekit-server that announces the relay's address instead of its own (LivekitServer's
`announced`). Publishers and recorders reach the server through it and nothing else, so losses happen before
SRTP, and lost packets are requested again as on a real path.
"""

import asyncio
import itertools
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Self

RELAY_ADDRESS = "127.0.0.2"
"""All of 127.0.0.0/8 is this machine; the server itself is at 127.0.0.1."""
HEADERS_BYTES = 28
"""Bytes of IPv4 and UDP headers, which also count for a link's rate."""
SOCKET_BUFFER_BYTES = 4 << 20


class Leg(Enum):
    PUBLISHER = "publisher - server"
    RECORDER = "server - recorder"


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a path does to the datagrams of one direction; the default is a path without faults."""

    loss: float = 0.0
    """The share of datagrams that is lost, 0 to 1."""
    burst: float = 1.0
    """How many are lost in a row, on average: a Gilbert model with no loss in its good state."""
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Additional delay, drawn again every JITTER_HOLD_S, evenly from 0 to this. Order is kept, as in a
    queue."""
    reordered: float = 0.0
    """The share of datagrams that arrives `reordered_ms` late, behind later ones."""
    reordered_ms: float = 20.0
    kbps: int = 0
    """The rate of a bottleneck with a queue of `queue_ms`, which drops what does not fit; 0: none."""
    queue_ms: float = 300.0
    cut: bool = False


JITTER_HOLD_S = 0.02
"""Shorter than the time between two packets of sound: each has a delay of its own."""
CLEAR = Impairment()
CUT = Impairment(cut=True)


class Path:
    """Decides when each datagram of one direction comes out. No I/O and no clock of its own."""

    def __init__(self, impairment: Impairment = CLEAR, seed: int = 0) -> None:
        self.impairment = impairment
        self._random = random.Random(seed)
        self._losing = False
        self._free_at_s = 0.0
        self._last_s = 0.0
        self._jitter_s = 0.0
        self._jitter_until_s = 0.0

    def delivered_at(self, size_bytes: int, now_s: float) -> float | None:
        """When a datagram that is sent at `now_s` arrives; None if it is lost."""
        path = self.impairment
        if path.cut or self._loses():
            return None
        at_s = now_s + path.delay_ms / 1000
        if path.kbps:
            begins_s = max(now_s, self._free_at_s)
            if begins_s - now_s > path.queue_ms / 1000:
                return None
            self._free_at_s = begins_s + (size_bytes + HEADERS_BYTES) * 8 / (path.kbps * 1000)
            at_s += self._free_at_s - now_s
        if path.jitter_ms and now_s >= self._jitter_until_s:
            self._jitter_s = self._random.uniform(0, path.jitter_ms / 1000)
            self._jitter_until_s = now_s + JITTER_HOLD_S
        at_s += self._jitter_s if path.jitter_ms else 0.0
        if path.reordered and self._random.random() < path.reordered:
            return at_s + path.reordered_ms / 1000
        self._last_s = max(at_s, self._last_s + 1e-6)
        return self._last_s

    def _loses(self) -> bool:
        """One step of the Gilbert model: runs of `burst` on average, `loss` of all."""
        path = self.impairment
        if path.loss <= 0:
            return False
        ends = 1 / max(1.0, path.burst)
        begins = path.loss * ends / max(1e-9, 1 - path.loss)
        # With a burst of 1 a run may go on by chance alone, as independent losses do.
        if path.burst <= 1:
            self._losing = self._random.random() < path.loss
        else:
            self._losing = self._random.random() < (1 - ends if self._losing else begins)
        return self._losing


def is_media(data: bytes) -> bool:
    """Whether it is SRTP, and not RTCP (RFC 5761 section 4, RFC 7983)."""
    return len(data) > 12 and 127 < data[0] < 192 and not 191 < data[1] < 224


@dataclass(slots=True)
class _Flow:
    """One client's socket address, and the socket that stands for it at the server."""

    client: tuple[str, int]
    leg: Leg
    upstream: asyncio.DatagramTransport
    up: Path
    down: Path
    joined: Leg
    """Which side clients belonged to when it came."""


@dataclass(slots=True)
class Counts:
    passed: int = 0
    lost: int = 0


class UdpRelay:
    """Relays RELAY_ADDRESS:`port` to 127.0.0.1:`port`; lives in the running event loop.

    A client that sends media through it is a publisher, and one that receives media is a recorder; until
    either is seen, it belongs to `joining`.
    """

    def __init__(self, port: int, seed: int = 1) -> None:
        self.joining = Leg.PUBLISHER
        self.counts = {leg: Counts() for leg in Leg}
        self.received: dict[int, int] = {}
        """By SSRC, which SRTP leaves in the clear: the packets that the server sent to those who came while
        recorders joined."""
        self._port = port
        self._seeds: Iterator[int] = itertools.count(seed * 1000)
        self._addresses = itertools.count(3)
        self._impairments = dict.fromkeys(Leg, CLEAR)
        self._flows: dict[tuple[str, int], _Flow] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._early: dict[tuple[str, int], list[bytes]] = {}
        self._front: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self._from_client), local_addr=(RELAY_ADDRESS, self._port)
        )
        _enlarge(self._front)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for flow in self._flows.values():
            flow.upstream.close()
        if self._front is not None:
            self._front.close()

    def impair(self, leg: Leg, impairment: Impairment) -> None:
        """From now on, in both directions."""
        self._impairments[leg] = impairment
        for flow in self._flows.values():
            if flow.leg is leg:
                flow.up.impairment = flow.down.impairment = impairment

    async def change_address(self, leg: Leg) -> None:
        """Like a NAT that forgot: from now on the server sees these clients at another address and port, and
        what it sends to the previous one is lost."""
        address = f"127.0.0.{next(self._addresses)}"
        for flow in list(self._flows.values()):
            if flow.leg is leg:
                flow.upstream.close()
                flow.upstream = await self._open(flow.client, address)

    # --- datagrams

    def _from_client(self, data: bytes, address: tuple[str, int]) -> None:
        flow = self._flows.get(address)
        if flow is None:
            waiting = self._early.setdefault(address, [])
            waiting.append(data)
            if len(waiting) == 1:
                task = asyncio.get_running_loop().create_task(self._admit(address))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            return
        if is_media(data):
            self._belongs(flow, Leg.PUBLISHER)
        self._pass(flow, flow.up, data, lambda: flow.upstream.sendto(data))

    def _from_server(self, client: tuple[str, int], data: bytes) -> None:
        flow, front = self._flows.get(client), self._front
        if flow is None or front is None:
            return
        if is_media(data):
            self._belongs(flow, Leg.RECORDER)
            if flow.joined is Leg.RECORDER:
                ssrc = int.from_bytes(data[8:12], "big")
                self.received[ssrc] = self.received.get(ssrc, 0) + 1
        self._pass(flow, flow.down, data, lambda: front.sendto(data, client))

    def _pass(self, flow: _Flow, path: Path, data: bytes, send: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        at_s = path.delivered_at(len(data), now_s)
        counts = self.counts[flow.leg]
        if at_s is None:
            counts.lost += 1
            return
        counts.passed += 1
        if at_s <= now_s + 1e-4:
            send()
        else:
            loop.call_at(at_s, send)

    def _belongs(self, flow: _Flow, leg: Leg) -> None:
        if flow.leg is not leg:
            flow.leg = leg
            flow.up.impairment = flow.down.impairment = self._impairments[leg]

    async def _admit(self, client: tuple[str, int]) -> None:
        leg = self.joining
        upstream = await self._open(client, "127.0.0.1")
        up, down = (Path(self._impairments[leg], next(self._seeds)) for _ in range(2))
        self._flows[client] = _Flow(client, leg, upstream, up, down, leg)
        for data in self._early.pop(client):
            self._from_client(data, client)

    async def _open(self, client: tuple[str, int], address: str) -> asyncio.DatagramTransport:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Receiver(lambda data, _: self._from_server(client, data)),
            local_addr=(address, 0),
            remote_addr=("127.0.0.1", self._port),
        )
        _enlarge(transport)
        return transport


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """A server that is down or a client that left: a network does not care either."""


def _enlarge(transport: asyncio.DatagramTransport) -> None:
    """Key frames of several tracks come at once."""
    sock = transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
