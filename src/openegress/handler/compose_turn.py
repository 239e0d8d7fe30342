"""Asks the worker whether this process may compose now: on one machine few do so at a time."""

import asyncio
from collections.abc import Callable

from openegress.core import ipc


class ComposeTurn:
    """Of one process. The turn is over when the process is."""

    def __init__(self, send: Callable[[ipc.AskTurn], None]) -> None:
        self._send = send
        self._given = asyncio.Event()

    def give(self) -> None:
        self._given.set()

    async def wait(self) -> None:
        self._send(ipc.AskTurn())
        await self._given.wait()
