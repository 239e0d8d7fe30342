"""A TCP relay on loopback that misbehaves on request: refuses, resets in mid-upload, answers 5xx, slows
down."""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

from testkit.livekit_server import free_port

CHUNK_BYTES = 64 * 1024


class FaultProxy:
    """Relays to 127.0.0.1:`target_port` until told otherwise; lives in the running event loop."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.connections = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._reset_after_bytes = -1
        self._resets = 0
        self._answer_status = 0
        self._answers = 0
        self._bytes_per_s = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listens, and relays faithfully again."""
        self._resets = self._answers = self._bytes_per_s = 0
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Behaves like a server that is down: open connections are cut, new ones are refused."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        # Nothing is cancelled: a relay that is just connecting would lose its far end without closing it.
        for writer in self._tasks.values():
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def reset_after(self, sent_bytes: int, times: int) -> None:
        """The next `times` connections are reset when the client has sent this much."""
        self._reset_after_bytes, self._resets = sent_bytes, times

    def answer(self, status: int, times: int) -> None:
        """The next `times` requests are answered with `status` and not passed on."""
        self._answer_status, self._answers = status, times

    def slow(self, bytes_per_s: int) -> None:
        """Connections take nothing more from the client."""
        self._bytes_per_s = bytes_per_s

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._handle(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._tasks.pop)
        if self._server is None:
            writer.transport.abort()  # accepted before refuse(), reported after it

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._answers > 0:
                self._answers -= 1
                await self._say(reader, writer)
            else:
                await self._relay(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side went away, as intended
        finally:
            writer.transport.abort()

    async def _say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length:")
        if found:
            await reader.readexactly(int(rest.split(b"\r\n")[0]))
        body = b"<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>"
        writer.write(
            b"HTTP/1.1 %d Trouble\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (self._answer_status, len(body), body)
        )
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        back = asyncio.ensure_future(copy(far_reader, writer))
        try:
            sent_bytes = 0
            while data := await reader.read(CHUNK_BYTES):
                sent_bytes += len(data)
                if self._resets > 0 and sent_bytes > self._reset_after_bytes:
                    self._resets -= 1
                    reset(writer)
                    return
                if self._bytes_per_s:
                    await asyncio.sleep(len(data) / self._bytes_per_s)
                far_writer.write(data)
                await far_writer.drain()
        finally:
            far_writer.transport.abort()
            await asyncio.gather(back, return_exceptions=True)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: closing a socket that lingers for no time."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
