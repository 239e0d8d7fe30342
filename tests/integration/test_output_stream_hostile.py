"""Receivers of streams that say more than they have to, without end: nothing of it is kept, their stream ends
with a sentence, and the file that is recorded beside it is whole."""

import asyncio
import base64
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from openegress.core import plan
from openegress.core.errors import EgressError
from openegress.core.events import StreamStatus
from openegress.media.srt import PAYLOAD_BYTES, SrtConnection
from openegress.output.live.reconnect import ReconnectPolicy
from openegress.output.live.rtmp import amf0
from openegress.output.live.websocket import WebsocketSender
from openegress.request.srt_url import parse as parse_srt
from testkit import probe
from testkit.livekit_server import free_port
from tests.integration.test_output_stream import Feeding, Rig, encode

MIB = 2**20
MAX_GROWTH_BYTES = 50 * MIB
LONGEST = b"\xff\xff\xff"
"""Of a message (RTMP 1.0, section 5.3.1.1)."""
HANDSHAKE_BYTES = 1536
COMMAND, VIDEO, USER_CONTROL = 20, 9, 4
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

Flood = Callable[[], Iterator[bytes]]


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


class Flooding:
    """A server of RTMP that shakes hands, answers all that it will be asked, and then says `flood` to each
    that comes."""

    def __init__(self, answers: bytes, flood: Flood) -> None:
        self._answers = answers
        self._flood = flood
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent_bytes = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                with peer, suppress(OSError):
                    peer.settimeout(10)
                    self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        first = _exactly(peer, 1 + HANDSHAKE_BYTES)
        peer.sendall(b"\x03" + os.urandom(HANDSHAKE_BYTES) + first[1:])
        _exactly(peer, HANDSHAKE_BYTES)
        peer.sendall(self._answers)
        for data in self._flood():
            peer.sendall(data)
            self.sent_bytes += len(data)
        # A socket that is closed with data it has not read takes back what the other end has not read yet.
        while peer.recv(65_536):
            pass


def _exactly(peer: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = peer.recv(65_536)
        if not data:
            raise ConnectionResetError
        found += data
    return found


def message(kind: int, body: bytes) -> bytes:
    """In one chunk, of 128 bytes at most."""
    return b"\x03" + bytes(3) + len(body).to_bytes(3) + bytes((kind,)) + bytes(4) + body


def chunk_size(count: int) -> bytes:
    return b"\x02" + bytes(3) + (4).to_bytes(3) + b"\x01" + bytes(4) + struct.pack(">I", count)


TAKEN = (
    message(COMMAND, amf0.encode("_result", 1, None, {"code": "NetConnection.Connect.Success"}))
    + message(COMMAND, amf0.encode("_result", 4, None, 1))
    + message(COMMAND, amf0.encode("onStatus", 0, None, {"code": "NetStream.Publish.Start"}))
)


def channel(number: int) -> bytes:
    return bytes((0, number)) if number < 256 else b"\x01" + struct.pack("<H", number % 65_536)


def begun_messages() -> Iterator[bytes]:
    """Eight megabytes of sixteen, on one channel after the other: FFmpeg would keep 65,000 of them."""
    yield chunk_size(0x7FFFFF)
    body = bytes(0x7FFFFF)
    for number in range(200):
        yield channel(number) + bytes(3) + LONGEST + bytes((VIDEO,)) + bytes(4) + body


def announced_messages() -> Iterator[bytes]:
    """A byte of sixteen megabytes each, for which FFmpeg would take all of its memory."""
    yield chunk_size(1)
    announced = bytes(3) + LONGEST + bytes((VIDEO,)) + bytes(5)
    for first in range(0, 65_000, 1000):
        yield b"".join(channel(n) + announced for n in range(first, first + 1000))


def whole_messages() -> Iterator[bytes]:
    """Pings, each of which wants an answer."""
    pings = message(USER_CONTROL, struct.pack(">HI", 6, 7)) * 1000
    while True:
        yield pings


@contextmanager
def flooding(answers: bytes, flood: Flood) -> Iterator[Flooding]:
    server = Flooding(answers, flood)
    try:
        yield server
    finally:
        server.close()


class Growth:
    """Of this process' memory, at its most, while it is entered."""

    def __enter__(self) -> "Growth":
        self._before = psutil.Process().memory_info().rss
        self.most_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.02):
            self.most_bytes = max(self.most_bytes, process.memory_info().rss - self._before)


@pytest.mark.parametrize("flood", [begun_messages, announced_messages, whole_messages])
@pytest.mark.parametrize("answers", [b"", TAKEN], ids=["before", "after"])
async def test_what_a_server_of_rtmp_says_without_end_is_not_kept(
    rig: Rig, answers: bytes, flood: Flood
) -> None:
    """Before it has taken the stream, or after."""
    encoded, packets = encode(4.0)
    with flooding(answers, flood) as server:
        url = f"rtmp://127.0.0.1:{server.port}/live/key"
        output, file = rig.stream(url, policy=ReconnectPolicy(budget_s=1.0)), rig.file()
        opening = rig.opening(encoded)
        with Growth() as growth:
            for each in (output, file):
                each.open(opening)
            feeding = Feeding(packets, [output, file])
            await rig.until(url, StreamStatus.FAILED)
            await feeding.over()
        await file.finish(time.time_ns())
        error = rig.updates(url)[-1].error
        # One that wants answers and reads none is stuck before it has said too much.
        assert "the server says more than it has to say" in error or "took no data for 5 s" in error
        assert server.sent_bytes < MAX_GROWTH_BYTES
    assert growth.most_bytes < MAX_GROWTH_BYTES
    assert probe.counters(rig.stored()).values == list(range(120))


class FloodingReceiver:
    """Of a websocket: takes it, and sends frames without end."""

    def __init__(self, first: bytes, frames: bytes) -> None:
        self._first = first
        self._frames = frames
        self.sent_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", asked)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + _WEBSOCKET_GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + self._first
        )
        taking = asyncio.create_task(_take_all(reader))
        with suppress(OSError):
            while not taking.done():
                writer.write(self._frames)
                await writer.drain()
                self.sent_bytes += len(self._frames)
        writer.close()
        await taking


async def _take_all(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(65_536):
            pass


@pytest.mark.parametrize(
    ("first", "frames"),
    [(b"", b"\x81\x05hello" * 10_000), (b"", b"\x89\x04ping" * 10_000), (b"\x01\x00", bytes(65_536))],
    ids=["texts", "pings", "fragments"],
)
async def test_what_a_receiver_of_sound_says_without_end_is_not_kept(
    rig: Rig, first: bytes, frames: bytes
) -> None:
    encoded, packets = encode(4.0)
    receiver = FloodingReceiver(first, frames)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    output = plan.WebsocketOutput(url, url, 48_000, 2)
    sender = WebsocketSender(output, 0, emit=rig.emit, policy=ReconnectPolicy(budget_s=1.0))
    file = rig.file()
    opening = rig.opening(encoded)
    with Growth() as growth:
        for each in (sender, file):
            each.open(opening)
        feeding = Feeding(packets, [file])
        while not feeding.is_over():
            sender.audio(bytes(1920), 0, 48_000)
            await asyncio.sleep(0.01)
        await feeding.over()
    await file.finish(time.time_ns())
    with pytest.raises(EgressError, match="the receiver says more than it has to say"):
        await sender.finish(time.time_ns())
    server.close()
    assert growth.most_bytes < MAX_GROWTH_BYTES
    assert probe.counters(rig.stored()).values == list(range(120))


def test_what_a_server_of_srt_sends_back_is_not_kept() -> None:
    port = free_port()
    source = f"nullsrc=size=1280x720:rate=100 -c:v rawvideo -f mpegts srt://127.0.0.1:{port}?mode=listener"
    server = subprocess.Popen(["ffmpeg", "-v", "quiet", "-f", "lavfi", "-i", *source.split()])
    try:
        wait_for_listener(port)
        connection = SrtConnection(5.0)
        with Growth() as growth:
            connection.connect(parse_srt(f"srt://127.0.0.1:{port}"), [])
            for _ in range(20):
                connection.write(bytes(PAYLOAD_BYTES))
                time.sleep(0.1)
        connection.close()
    finally:
        server.kill()
        server.wait()
    # libsrt would keep 12 MB for each connection, of which a request may name fifty.
    assert growth.most_bytes < 4 * MIB


def wait_for_listener(port: int) -> None:
    deadline_s = time.monotonic() + 20
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline_s, "ffmpeg does not listen"
        time.sleep(0.05)
