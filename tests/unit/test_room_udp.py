"""A socket read one by one, in batches, and drained: real datagrams on loopback, in order."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from openegress.room.udp import BatchedUdp


class Reader(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.wake_ups = 0
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._told = False

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.read.append(data)
        self.changed.set()
        if not self._told:
            self._told = True
            self.wake_ups += 1
            self._loop.call_soon(self._asleep)

    def _asleep(self) -> None:
        """Everything of one wake-up was handed out before this runs."""
        self._told = False

    async def has(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.read) < count:
                self.changed.clear()
                await self.changed.wait()


class Link:
    """A socket that sends to one that is read."""

    def __init__(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(sock.getsockname())
        self.reader = Reader()
        self.transport = BatchedUdp(sock, self.reader)
        self.sent: list[bytes] = []

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            data = b"%d" % len(self.sent)
            self.sent.append(data)
            self._sender.send(data)

    async def speak(self, packets: int) -> None:
        """A packet each 20 ms, as a voice."""
        for _ in range(packets):
            self.send()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        self.transport.close()
        self._sender.close()


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    link = Link()
    yield link
    link.close()
    await asyncio.sleep(0)


async def test_many_at_once_come_in_few_wake_ups_and_in_order(link: Link) -> None:
    link.send(300)
    await link.reader.has(300)
    assert link.reader.read == link.sent
    assert link.reader.wake_ups < 10


async def test_a_voice_is_read_in_batches_once_nobody_waits(link: Link) -> None:
    await link.speak(10)
    await link.reader.has(10)
    before = link.reader.wake_ups
    assert before > 5
    link.transport.relax()
    await link.speak(40)
    await link.reader.has(50)
    assert link.reader.read == link.sent
    assert link.reader.wake_ups - before < 20


async def test_what_waits_is_handed_out_on_demand(link: Link) -> None:
    link.transport.relax()
    await link.speak(5)
    link.send(3)
    link.transport.drain()
    assert link.reader.read == link.sent


async def test_a_socket_closed_in_a_pause_hands_out_nothing_more(link: Link) -> None:
    link.transport.relax()
    await link.speak(5)
    read = len(link.reader.read)
    link.send(3)
    link.transport.close()
    link.transport.drain()
    await asyncio.sleep(0.2)
    assert len(link.reader.read) == read
