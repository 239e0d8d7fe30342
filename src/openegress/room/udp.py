"""A UDP socket read in batches when much comes in.

asyncio wakes up once for each datagram, which costs more than what a recorder does with it. Where datagrams
follow closely, reading pauses and then takes all there is. The socket's buffer holds many times that.
"""

import asyncio
import socket

PAUSE_S = 0.01
"""A hundred batches a second: nobody notices."""
RELAXED_PAUSE_S = 0.1
"""Ten batches a second, each packet of a voice among them; far below the time a lost packet is waited for."""
CLOSE = 0.4
"""Datagrams that follow one another within this share of the pause are read in batches."""
MAX_BATCH = 512
"""At a time, so that other work gets its turn."""
MAX_WAITING = 8192
"""More than fit into a socket's buffer."""
MAX_DATAGRAM_BYTES = 2048
"""More than any path's MTU; SRTP packets are smaller."""


class BatchedUdp(asyncio.DatagramTransport):
    """Owns `sock` (bound, non-blocking) and hands its datagrams to `protocol`."""

    def __init__(self, sock: socket.socket, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._sock = sock
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._pause_s = PAUSE_S
        self._read_at = 0.0
        self._resume: asyncio.TimerHandle | None = None
        """While reading pauses."""
        self._closing = False
        protocol.connection_made(self)
        self._loop.add_reader(sock.fileno(), self._readable)

    def sendto(self, data: bytes, addr: tuple[str, int] | None = None) -> None:  # type: ignore[override]
        """Dropped when the socket's buffer is full, as the network might."""
        if self._closing or addr is None:
            return
        try:
            self._sock.sendto(data, addr)
        except BlockingIOError:
            pass  # UDP: whoever sent it sends it again
        except OSError as error:
            self._protocol.error_received(error)

    def relax(self) -> None:
        """From here on nobody waits for the datagrams."""
        self._pause_s = RELAXED_PAUSE_S

    def drain(self) -> None:
        """Hands out what has come in, now."""
        for _ in range(MAX_WAITING):
            if self._closing or not self._receive():
                return

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_soon(self._closed)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def _closed(self) -> None:
        self._protocol.connection_lost(None)
        self._sock.close()

    def _readable(self) -> None:
        now = self._loop.time()
        is_close, self._read_at = now - self._read_at < CLOSE * self._pause_s, now
        if is_close:
            self._loop.remove_reader(self._sock.fileno())
            self._read_batch()
        else:
            self._receive()

    def _read_batch(self) -> None:
        count = 0
        while count < MAX_BATCH and not self._closing and self._receive():
            count += 1
        if self._closing:
            return
        if count > 1 or self._resume is None:
            self._resume = self._loop.call_later(self._pause_s if count < MAX_BATCH else 0, self._read_batch)
        else:
            self._resume = None
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _receive(self) -> bool:
        """One datagram; False when there is none."""
        try:
            data, address = self._sock.recvfrom(MAX_DATAGRAM_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:  # an ICMP message about something sent before
            self._protocol.error_received(error)
            return True
        self._protocol.datagram_received(data, address)
        return True
