"""TLS around an RTMP connection of FFmpeg's, to an address that has been checked: RTMP comes in on loopback,
and goes out as RTMPS.

If FFmpeg spoke TLS itself, it would resolve the name again, or send the server no name at all (SNI).
"""

import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from secrets import randbelow

_CHUNK_BYTES = 65_536
_BUFFER_BYTES = 65_536
"""Buffer between the two connections: a peer that takes nothing should be noticed soon."""
_ACCEPT_WITHIN_S = 5.0
_LAST_WORDS_S = 1.0
"""Until the far side hangs up too: closing a connection with unread data resets it, and loses what is on its
way."""


class TlsTunnel:
    """Owns `far`, whose handshake is done. Its thread ends with close(), or when either side hangs up."""

    def __init__(self, far: ssl.SSLSocket) -> None:
        self._far = far
        self._listener = socket.create_server((_loopback_address(), 0), backlog=1)
        self._listener.settimeout(_ACCEPT_WITHIN_S)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self.address: tuple[str, int] = self._listener.getsockname()
        """Where the next connection is accepted, and no other."""
        self._near: socket.socket | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="TLS tunnel", daemon=True)
        self._thread.start()

    def close(self, drain_s: float = 0.0) -> None:
        """If FFmpeg has hung up, gives its last data this long to be passed on. Idempotent."""
        self._done.wait(drain_s)
        for end in (self._listener, self._near, self._far):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._listener:
                self._near, _ = self._listener.accept()
            with self._near:
                _relay(self._near, self._far)
        except (OSError, ValueError):
            pass  # closed, or one side has gone: FFmpeg finds its end closed
        finally:
            self._far.close()
            self._done.set()


def _loopback_address() -> str:
    """One of sixteen million: other programs on this machine, such as a page, cannot find it by trying."""
    return f"127.{1 + randbelow(254)}.{randbelow(256)}.{1 + randbelow(254)}"


def _relay(near: socket.socket, far: ssl.SSLSocket) -> None:
    """In both directions. Raises OSError when the far side has gone; returns when the near one has."""
    near.setblocking(False)
    far.setblocking(False)
    there, back = bytearray(), bytearray()
    near_is_open = True
    deadline_s = float("inf")
    poll = select.poll()
    while True:
        if near_is_open and len(there) < _BUFFER_BYTES:
            near_is_open = _take(near, there)
        _give(far, there)
        if len(back) < _BUFFER_BYTES and not _take(far, back):
            return
        if near_is_open:
            _give(near, back)
        else:
            back.clear()
        if not near_is_open and not there and deadline_s == float("inf"):
            far.shutdown(socket.SHUT_WR)
            deadline_s = time.monotonic() + _LAST_WORDS_S
        if time.monotonic() > deadline_s:
            return
        poll.register(far, select.POLLIN | (select.POLLOUT if there else 0))
        if near_is_open:
            wanted = select.POLLIN if len(there) < _BUFFER_BYTES else 0
            poll.register(near, wanted | (select.POLLOUT if back else 0))
        else:
            with suppress(KeyError):
                poll.unregister(near)
        poll.poll(round(_LAST_WORDS_S * 1000) if not near_is_open else None)


def _take(source: socket.socket, into: bytearray) -> bool:
    """Reads what is there; False at its end."""
    while len(into) < _BUFFER_BYTES:
        try:
            data = source.recv(_CHUNK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        if not data:
            return False
        into += data
    return True


def _give(sink: socket.socket, data: bytearray) -> None:
    """Writes as much as the peer takes."""
    while data:
        try:
            del data[: sink.send(data)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
