"""Wraps a connected socket, plain or with TLS, with a time-out for a stuck peer."""

import errno
import os
import select
import socket
import ssl
import time

_CHUNK_BYTES = 65_536
_TRANSPORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Wire:
    """A connected socket. Confined to one thread. Another thread may shut the socket down, and waiting calls
    then fail."""

    def __init__(self, connected: socket.socket, stall_s: float) -> None:
        """Takes over the socket. A peer that accepts or sends nothing for `stall_s` is stuck."""
        connected.setblocking(False)
        self._socket = connected
        self._stall_s = stall_s

    def send(self, data: bytes) -> None:
        """Sends `data`. Returns once the kernel has accepted all of it. Raises OSError."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, self._stall_s)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, self._stall_s)
            except _TRANSPORT:
                raise _gone() from None

    def take(self) -> bytes:
        """Returns the bytes that have arrived, possibly none. Raises OSError, also at the end of the
        stream."""
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except _TRANSPORT:
            raise _gone() from None
        if not data:
            raise _gone()
        return data

    def receive(self, within_s: float | None = None) -> bytes:
        """Waits for bytes, for `stall_s` or `within_s`. Raises OSError."""
        while not (data := self.take()):
            self._wait(select.POLLIN, self._stall_s if within_s is None else within_s)
        return data

    def hang_up(self, within_s: float) -> None:
        """Closes once the peer has closed, or after `within_s`: closing with unread bytes resets the
        connection, and loses what is on its way. Raises nothing."""
        deadline_s = time.monotonic() + within_s
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            while (left_s := deadline_s - time.monotonic()) > 0:
                if not self.take():
                    self._wait(select.POLLIN, left_s)
        except OSError:
            pass  # the peer is gone, which is the aim
        self.close()

    def close(self) -> None:
        """Closes the socket. Idempotent."""
        self._socket.close()

    def _wait(self, what: int, within_s: float) -> None:
        poll = select.poll()
        poll.register(self._socket, what)
        if not poll.poll(within_s * 1000):
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _gone() -> OSError:
    return OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
