"""Asks the worker for the room's keys: the worker reaches the key service, a handler does not."""

import asyncio
from collections.abc import Callable
from itertools import count

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.room_keys import KeyAnswer, KeyQuestion


class KeyQuestions:
    """Implements core.room_keys.KeyService for one recording."""

    def __init__(self, send: Callable[[ipc.AskKeys], None]) -> None:
        self._send = send
        self._calls = count()
        self._waiting: dict[int, asyncio.Future[ipc.KeysGiven]] = {}

    async def ask(self, question: KeyQuestion) -> KeyAnswer:
        """Asks the worker and waits for its answer: cancel it when the worker is gone. Raises EgressError."""
        call = next(self._calls)
        self._waiting[call] = asyncio.get_running_loop().create_future()
        try:
            self._send(ipc.AskKeys(call, question))
            given = await self._waiting[call]
        finally:
            del self._waiting[call]
        if given.error:
            raise EgressError(Code.UNAVAILABLE, given.error, fault=Fault.SERVICE)
        return given.answer

    def answer(self, message: ipc.KeysGiven) -> None:
        waiting = self._waiting.get(message.call)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
