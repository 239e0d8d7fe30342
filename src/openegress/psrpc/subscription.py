"""A subscription that a bus fills and one reader empties."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable


class QueuedSubscription:
    """Payloads wait here for their reader; iteration ends when it is closed."""

    def __init__(self, on_close: Callable[["QueuedSubscription"], Awaitable[None]]) -> None:
        self._payloads: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._on_close = on_close
        self._closed = False

    def deliver(self, payload: bytes) -> None:
        if not self._closed:
            self._payloads.put_nowait(payload)

    def end(self) -> None:
        """No further payload: the bus is closing. What already waits is still read."""
        if not self._closed:
            self._closed = True
            self._payloads.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (payload := await self._payloads.get()) is not None:
            yield payload

    async def close(self) -> None:
        if not self._closed:
            self.end()
            await self._on_close(self)
