"""The handler's end of the socket to its worker."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec

from openegress.core import ipc

_FROM_WORKER: msgspec.msgpack.Decoder[ipc.ToHandler] = msgspec.msgpack.Decoder(ipc.ToHandler)


class WorkerChannel:
    """Messages both ways; send() is thread-safe and never blocks.

    Without a worker, sending silently does nothing: the journal then has everything that matters.
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
        """Yields the worker's messages. Ends when the worker closes its end or dies."""
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
        """Closes the channel. Everything sent before still reaches the worker."""
        await asyncio.sleep(0)  # this thread's last sends are callbacks of the current turn
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass  # the worker had already gone

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)
