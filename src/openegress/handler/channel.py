"""The handler's end of the socket to its worker."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec

from openegress.core import ipc

_FROM_WORKER: msgspec.msgpack.Decoder[ipc.ToHandler] = msgspec.msgpack.Decoder(ipc.ToHandler)


class WorkerChannel:
    """Messages both ways; send() is thread-safe and never blocks.

    When the worker is gone, sending is silently given up: what matters then lies in the journal.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, fd: int) -> "WorkerChannel":
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
        return cls(reader, writer)

    def send(self, message: ipc.ToWorker) -> None:
        self._loop.call_soon_threadsafe(self._write, ipc.frame(message))

    async def messages(self) -> AsyncIterator[ipc.ToHandler]:
        """Ends when the worker closes its end or dies."""
        framer = ipc.Framer()
        while True:
            try:
                data = await self._reader.read(65_536)
            except ConnectionError:
                return
            if not data:
                return
            for body in framer.feed(data):
                yield _FROM_WORKER.decode(body)

    async def close(self) -> None:
        """What was sent before this reaches the worker."""
        await asyncio.sleep(0)  # sends made just now from this thread are callbacks of this turn
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass  # the worker was gone already

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)
