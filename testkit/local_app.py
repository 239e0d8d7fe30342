"""A web application on loopback for the duration of a test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from aiohttp import web


@asynccontextmanager
async def serving(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Returns its port: a free one, if none is given. Answers in progress at the end are cut off."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class LocalApp:
    """A server that keeps what it receives: a subclass defines its routes. Use as an async context
    manager."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        """0 until it is entered, if no port is given."""
        self._stack = AsyncExitStack()

    def app(self) -> web.Application:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self.port = await self._stack.enter_async_context(serving(self.app(), port=self.port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
