"""A UDP socket that is read in batches when much arrives, with the time of arrival of each datagram.

asyncio wakes up once for each datagram, which costs more than what a recorder does with it. Where datagrams
follow closely, reading pauses, and then takes everything that is there: for a shorter time where the socket's
buffer would not hold several times that. The kernel notes when each one arrived (socket(7), SO_TIMESTAMPNS),
so neither a pause nor a busy event loop makes a datagram seem late.
"""

import asyncio
import socket
import sys
import time
from struct import Struct
from typing import Any, Protocol

from openegress.core.units import S

PAUSE_S = 0.01
"""A hundred batches a second: nobody notices."""
RELAXED_PAUSE_S = 0.2
"""Five batches a second, each packet of a voice among them. A lost packet is waited for much longer, and a
kill costs no more than about a second (see output.writer and media.clusters)."""
HASTE_S = 0.3
"""How long short pauses last: more than most round trips."""
CLOSE = 0.4
"""Datagrams that follow one another within this share of the pause are read in batches."""
MAX_BATCH = 512
"""At a time, so that other work gets its turn."""
DENSEST = 3
"""What comes may be so many times as dense as lately: a key frame of everybody."""
DATAGRAM_ROOM = 2304
"""Of a socket's buffer, that the kernel counts for a full datagram (skb->truesize)."""
MAX_WAITING = 8192
"""More than fit into a socket's buffer."""
MAX_DATAGRAM_BYTES = 2048
"""More than any path's MTU; SRTP packets are smaller."""
SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; Python does not name it."""
TIMESPEC = Struct("@ll")
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)


class DatagramReader(Protocol):
    """Receives the datagrams of a socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def datagram_arrived(self, data: bytes, address: Any, arrival_ns: int) -> None:
        """`arrival_ns`: monotonic."""

    def error_received(self, exc: Exception) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class ReadingPace:
    """When a socket is read: one datagram at a time, or all there are after a pause. Pure."""

    def __init__(self, room: int) -> None:
        """`room`: datagrams that the socket holds."""
        self._room = room
        self._pause_s = self._last_s = PAUSE_S
        self._read_at_s = 0.0
        """When everything up to then was read, one at a time or in a batch."""
        self._hasty_until_s = 0.0

    def batch_reads(self) -> None:
        """Nobody waits for the datagrams any more."""
        self._pause_s = RELAXED_PAUSE_S

    def hasten(self, now_s: float) -> None:
        """Somebody waits for an answer to what was just read."""
        self._hasty_until_s = now_s + HASTE_S

    def is_close(self, now_s: float) -> bool:
        """Whether a datagram that comes now follows the last one so closely that reading pauses. Otherwise it
        is read by itself."""
        if now_s - self._read_at_s < CLOSE * self._pause_s:
            return True
        self._read_at_s = now_s
        return False

    def pause_s(self, count: int, now_s: float) -> float:
        """Until the next batch, after one of `count` datagrams: all that came since the last."""
        if count:
            most_s = (now_s - self._read_at_s) * self._room / (DENSEST * count)
            longest_s = self._pause_s if now_s >= self._hasty_until_s else PAUSE_S
            self._last_s = max(PAUSE_S, min(longest_s, most_s))
            self._read_at_s = now_s
        return self._last_s if count < MAX_BATCH else 0.0


class BatchedUdp(asyncio.DatagramTransport):
    """Owns `sock` (bound, non-blocking) and hands its datagrams to `protocol`."""

    def __init__(self, sock: socket.socket, protocol: DatagramReader) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._sock = sock
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._pace = ReadingPace(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // DATAGRAM_ROOM)
        self._is_stamped = False
        """The last datagram came with its time of arrival."""
        self._empty_ns = time.monotonic_ns()
        """When the socket was found empty: any later datagram arrived after that."""
        self._resume: asyncio.TimerHandle | None = None
        """While reading pauses."""
        self._closing = False
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        protocol.connection_made(self)
        self._loop.add_reader(sock.fileno(), self._readable)

    def sendto(self, data: bytes, addr: tuple[str, int] | None = None) -> None:  # type: ignore[override]
        """Dropped if the socket's buffer is full, as the network might do."""
        if self._closing or addr is None:
            return
        try:
            self._sock.sendto(data, addr)
        except BlockingIOError:
            pass  # UDP: its sender sends it again
        except OSError as error:
            self._protocol.error_received(error)

    def batch_reads(self) -> None:
        """Nobody waits for the datagrams any more. If the kernel does not note their arrival, reading does
        not change: long pauses would make them seem late."""
        if self._is_stamped:
            self._pace.batch_reads()

    def hasten(self) -> None:
        """Reads with short pauses for a moment: somebody waits for an answer to what was just read."""
        self._pace.hasten(self._loop.time())

    def drain(self) -> None:
        """Hands out what has arrived so far. A pause begins anew: who drains regularly is not woken in
        between."""
        count = self._take(MAX_WAITING)
        if self._resume is not None:
            self._begin_pause(count)

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
        if self._pace.is_close(self._loop.time()):
            self._loop.remove_reader(self._sock.fileno())
            self._read_batch()
        else:
            self._receive()

    def _read_batch(self) -> None:
        count = self._take(MAX_BATCH)
        if count > 1 or self._resume is None:
            self._begin_pause(count)
        elif not self._closing:
            self._resume = None
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _take(self, most: int) -> int:
        """Hands out what has arrived. Returns how many datagrams that was."""
        count = 0
        while count < most and not self._closing and self._receive():
            count += 1
        return count

    def _begin_pause(self, count: int) -> None:
        """`count`: datagrams that were read just now."""
        if self._resume is not None:
            self._resume.cancel()
        if not self._closing:
            pause_s = self._pace.pause_s(count, self._loop.time())
            self._resume = self._loop.call_later(pause_s, self._read_batch)

    def _receive(self) -> bool:
        """Reads one datagram; False if there is none."""
        try:
            data, ancillary, _, address = self._sock.recvmsg(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            self._empty_ns = time.monotonic_ns()
            return False
        except OSError as error:  # an ICMP message about an earlier datagram
            self._protocol.error_received(error)
            return True
        try:
            self._protocol.datagram_arrived(data, address, self._arrival_ns(ancillary))
        except Exception as error:
            # Reported like asyncio's own transports do; the next datagram is read anyway.
            text = f"a datagram could not be handled: {error!r}"
            self._loop.call_exception_handler({"message": text, "exception": error, "transport": self})
        return True

    def _arrival_ns(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        """Monotonic. The kernel stamps by the wall clock, which may have been set since."""
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        self._is_stamped = False
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == TIMESPEC.size:
                self._is_stamped = True
                seconds, nanoseconds = TIMESPEC.unpack(data)
                age_ns: int = wall_ns - (seconds * S + nanoseconds)
                return min(now_ns, max(self._empty_ns, now_ns - age_ns))
        return now_ns
