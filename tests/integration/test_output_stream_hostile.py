"""Servers of streams that say more than they have to: what they send is not kept."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from av.error import FFmpegError

from openegress.core.codecs import AudioCodec
from openegress.media.passthrough import audio_format
from openegress.output.live.connection import RtmpConnection

MIB = 2**20
LONGEST = 0xFFFFFF
"""Of a message (RTMP 1.0, 5.3.1.1)."""
CHUNK = 0x7FFFFF
HANDSHAKE = 1536
MOST_CHANNELS = 200
"""Which would be 1.6 GB."""


class Endless:
    """Shakes hands, and then begins message after message, of which none is ever whole."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent_bytes = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError):
            peer, _ = self._listener.accept()
            with peer:
                self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        first = _exactly(peer, 1 + HANDSHAKE)
        peer.sendall(b"\x03" + bytes(8) + os.urandom(HANDSHAKE - 8) + first[1:])
        _exactly(peer, HANDSHAKE)
        # Set Chunk Size, of four bytes.
        peer.sendall(b"\x02" + bytes(5) + b"\x04\x01" + bytes(4) + struct.pack(">I", CHUNK))
        body = bytes(CHUNK)
        for channel in range(64, 64 + MOST_CHANNELS):
            head = bytes((0, channel - 64)) if channel < 320 else b"\x01" + struct.pack("<H", channel - 64)
            peer.sendall(head + bytes(3) + LONGEST.to_bytes(3) + b"\x09" + bytes(4) + body)
            self.sent_bytes += CHUNK


def _exactly(peer: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = peer.recv(65_536)
        if not data:
            raise ConnectionResetError
        found += data
    return found


@pytest.fixture
def endless() -> Iterator[Endless]:
    server = Endless()
    yield server
    server.close()


def test_messages_that_are_never_whole_are_not_kept(
    endless: Endless, caplog: pytest.LogCaptureFixture
) -> None:
    before = psutil.Process().memory_info().rss
    formats = [audio_format(AudioCodec.OPUS)]
    connection = RtmpConnection(f"rtmp://127.0.0.1:{endless.port}/live/key", formats)
    with pytest.raises((OSError, FFmpegError)):
        connection.open()
    connection.abandon()
    assert psutil.Process().memory_info().rss - before < 50 * MIB
    assert endless.sent_bytes < 50 * MIB
    assert "says more than it has to say" in caplog.text
