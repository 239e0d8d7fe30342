"""Data channels: what a server sends by SCTP arrives, and no stranger keeps the recorder busy."""

import asyncio
from typing import Any

import pytest
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpTransport
from google_crc32c import value as crc32c

from openegress.core.token_bucket import RefillRate
from openegress.room.transport import data_channels
from openegress.room.transport.data_channels import DataChannels


class Server:
    """A server's end, at the other side of a wire that is two calls."""

    state = "connected"
    _role = "server"

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, int]] = []
        self.of_tracks: list[tuple[bytes, int]] = []
        self.came = asyncio.Event()
        self.channels = DataChannels(self._receive, self._take, self._take_of_track)
        self.sctp = RTCSctpTransport(self)  # type: ignore[arg-type]
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._receiver: Any = None
        self.answers = 0
        """Datagrams of the recorder."""
        self.lost = 0
        """Datagrams that are to be lost on their way to the recorder."""

    async def opened(self, label: str = "_reliable") -> RTCDataChannel:
        self.channels.start(5000)
        await self.sctp.start(None, 5000)
        self._task = asyncio.create_task(self._run())
        channel = RTCDataChannel(self.sctp, RTCDataChannelParameters(label=label))
        opened = asyncio.Event()
        channel.on("open", opened.set)
        async with asyncio.timeout(10):
            await opened.wait()
        return channel

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self.came.clear()
                await self.came.wait()

    async def close(self) -> None:
        await self.channels.close()
        await self.sctp.stop()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _receive(self, packet: bytes) -> None:
        self.answers += 1
        self._inbox.put_nowait(packet)

    def _take(self, message: bytes, arrival_ns: int) -> None:
        self.messages.append((message, arrival_ns))
        self.came.set()

    def _take_of_track(self, packet: bytes, arrival_ns: int) -> None:
        self.of_tracks.append((packet, arrival_ns))
        self.came.set()

    async def _run(self) -> None:
        while True:
            await self._receiver._handle_data(await self._inbox.get())

    async def _send_data(self, data: bytes) -> None:
        if self.lost:
            self.lost -= 1
        else:
            self.channels.received(data, 7)

    def _register_data_receiver(self, receiver: Any) -> None:
        self._receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self._receiver = None


async def test_messages_arrive_whole_and_in_order() -> None:
    server = Server()
    channel = await server.opened()
    sent = [b"", b"small", bytes(range(256)) * 200]
    for message in sent:
        channel.send(message)
    await server.until(3)
    assert server.messages == [(message, 7) for message in sent]
    await server.close()


async def test_packets_of_data_tracks_come_by_a_channel_of_their_own() -> None:
    server = Server()
    channel = await server.opened("_data_track")
    channel.send(b"packet")
    async with asyncio.timeout(10):
        await server.came.wait()
    assert (server.of_tracks, server.messages) == ([(b"packet", 7)], [])
    await server.close()


async def test_what_is_lost_is_sent_again() -> None:
    server = Server()
    channel = await server.opened()
    server.lost = 1
    for number in range(20):
        channel.send(bytes([number]) * 1000)
    await server.until(20)
    assert [message[:1] for message, _ in server.messages] == [bytes([number]) for number in range(20)]
    await server.close()


async def test_a_flood_is_dropped_before_it_costs_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_channels, "DATAGRAMS", RefillRate(0.001, 10))
    channels = DataChannels(lambda packet: None, lambda message, at_ns: None, lambda packet, at_ns: None)
    for _ in range(1000):
        channels.received(bytes(12), 0)
    assert channels.dropped == 990


async def test_what_comes_together_is_acknowledged_once() -> None:
    server = Server()
    channel = await server.opened()
    held: list[bytes] = []
    came = asyncio.Event()

    def hold(packet: bytes, arrival_ns: int) -> None:
        held.append(packet)
        if len(held) == 3:  # as many as are sent without an answer
            came.set()

    pass_on, server.channels.received = server.channels.received, hold  # type: ignore[method-assign]
    for number in range(20):
        channel.send(bytes([number]) * 100)
    async with asyncio.timeout(10):
        await came.wait()
    server.answers = 0
    for each in held:
        pass_on(each, 7)
    server.channels.received = pass_on  # type: ignore[method-assign]
    await server.until(len(held))
    assert server.answers == 1
    await server.until(20)
    await server.close()


async def test_garbage_ends_nothing_but_data() -> None:
    server = Server()
    channel = await server.opened()
    for garbage in (b"", b"x", bytes(12), bytes(64), b"\xff" * 1200):
        server.channels.received(garbage, 0)
    channel.send(b"still there")
    await server.until(1)
    await server.close()


def datagram(server: Server, *chunks: bytes) -> bytes:
    """To the recorder, with its tag and the sum that it must have."""
    tag = server.sctp._remote_verification_tag.to_bytes(4)
    head = bytes.fromhex("13881388") + tag
    body = b"".join(chunks)
    sum_: int = crc32c(head + bytes(4) + body)
    return head + sum_.to_bytes(4, "little") + body


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "chunk",
    [
        bytes.fromhex("8200000800110000"),  # a parameter of no length
        bytes.fromhex("06000008000c0003"),
        bytes.fromhex("0100001c") + bytes(24),
        bytes.fromhex("03000006") + bytes(4),  # a SACK that is cut
        bytes.fromhex("c0000006") + bytes(4),
    ],
    ids=["re-config", "abort", "init", "sack", "forward tsn"],
)
async def test_a_chunk_that_cannot_be_read_is_dropped(chunk: bytes) -> None:
    server = Server()
    channel = await server.opened()
    server.channels.received(datagram(server, chunk), 0)
    channel.send(b"still there")
    await server.until(1)
    assert server.channels.dropped
    await server.close()


async def test_closing_twice_is_closing() -> None:
    channels = DataChannels(lambda packet: None, lambda message, at_ns: None, lambda packet, at_ns: None)
    await channels.close()
    channels.start(5000)
    await channels.close()
    await channels.close()
