"""A TCP server on the loopback interface for one client of ours. It owns a task for each connection."""

import asyncio
from collections.abc import Awaitable, Callable

from openegress.core.tasks import cancelled

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LoopbackServer:
    """Accepts connections from start() to close()."""

    def __init__(self, serve: Serve, expected: tuple[type[Exception], ...]) -> None:
        """`serve` handles one connection, which is closed afterwards. `expected`: the exceptions it raises
        where a peer hangs up or speaks another protocol."""
        self._serve = serve
        self._expected = expected
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, limit: int = 2**16) -> None:
        """`limit`: the bytes that a reader buffers."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=limit)

    @property
    def port(self) -> int:
        """The port; call it after start()."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Closes all connections. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await cancelled(*self._tasks)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except self._expected:
            pass
        except asyncio.CancelledError:
            pass  # close()
        finally:
            writer.close()
            self._tasks.discard(task)
