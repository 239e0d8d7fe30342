"""Which recordings are composed now, and which wait: those that came first go first."""

import asyncio
from collections.abc import Callable


class ComposeTurns:
    """Of one machine."""

    def __init__(self, most: int) -> None:
        """`most` are composed at a time."""
        self._free = asyncio.Semaphore(most)

    def place(self) -> "ComposePlace":
        return ComposePlace(self._free)


class ComposePlace:
    """Of one handler in the queue."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._waiting: asyncio.Task[None] | None = None

    def ask(self, on_turn: Callable[[], None]) -> None:
        """Once."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._wait(on_turn), name="turn to compose")

    async def _wait(self, on_turn: Callable[[], None]) -> None:
        await self._free.acquire()
        on_turn()

    async def leave(self) -> None:
        """The handler is gone."""
        if self._waiting is None:
            return
        if not self._waiting.done():
            self._waiting.cancel()
        await asyncio.gather(self._waiting, return_exceptions=True)
        if not self._waiting.cancelled():
            self._free.release()
