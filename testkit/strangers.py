"""Strangers who connect to the API's port in numbers: some say nothing, some send a small body that unpacks
to far more."""

import asyncio
import contextlib
import gzip
import resource
import socket
from types import TracebackType
from typing import Self

START = "/twirp/livekit.Egress/StartWebEgress"
HALF_A_HEADER = b"POST /twirp/x HTTP/1.1\r\nHost: x\r\nA: "
MAX_DESCRIPTORS = 8192
_BOMB = gzip.compress(b"a" * (100 * 2**20))
HOSTILE = (
    f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(_BOMB)}\r\n\r\n"
).encode() + _BOMB[:50_000]


class Strangers:
    """Connected until the end; raises the limit of open files of this process for that time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(self._limit[1], MAX_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, self._limit[1]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)

    async def connect(self, count: int, first: bytes = b"") -> None:
        """Connects this many more, each of which sends `first`. Runs in a thread."""
        await asyncio.to_thread(self._connect, count, first)

    def _connect(self, count: int, first: bytes) -> None:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(first)
            self._connections.append(connection)

    @property
    def held(self) -> int:
        """How many the server has not closed."""
        held = 0
        for connection in self._connections:
            try:
                held += connection.recv(1024) != b""
            except BlockingIOError:
                held += 1
            except OSError:
                pass
        return held
