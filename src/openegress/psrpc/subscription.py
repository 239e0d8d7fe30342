"""A subscription that a bus fills and one reader empties."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable


class QueuedSubscription:
    """Queues payloads for one reader. Its iteration ends when the subscription is closed."""

    def __init__(self, on_close: Callable[["QueuedSubscription"], Awaitable[None]]) -> None:
        self._payloads: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._on_close = on_close
        self._closed = False

    def deliver(self, payload: bytes) -> None:
        if not self._closed:
            self._payloads.put_nowait(payload)

    def end(self) -> None:
        """Accepts no further payloads, as the bus is closing. Those in the queue are still read."""
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
