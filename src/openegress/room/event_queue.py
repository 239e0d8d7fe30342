"""Queues the events of a room for their reader."""

import asyncio
from collections.abc import AsyncIterator

from openegress.room.events import RoomClosed, RoomEvent


class EventQueue:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[RoomEvent | None] = asyncio.Queue()

    def put(self, event: RoomEvent) -> None:
        self._queue.put_nowait(event)

    def close(self) -> None:
        self._queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[RoomEvent]:
        """The events, for one reader. Ends after RoomClosed or close()."""
        while (event := await self._queue.get()) is not None:
            yield event
            if isinstance(event, RoomClosed):
                return
