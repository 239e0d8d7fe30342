"""Starts that wait for a free worker in place of a refusal, first come, first served."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from openegress.core.errors import Code, EgressError, Fault

RETRY_S = 2.0
"""Load falls without anybody saying so: the first in line asks again this often, and whenever an egress
ends."""
BUSY = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})

T = TypeVar("T")


class StartQueue:
    """At most `size` starts wait, each at most `max_wait_s`. Size 0: none waits."""

    def __init__(self, size: int, max_wait_s: float, no_room: Code = Code.UNAVAILABLE) -> None:
        """`no_room` is the code of a start that others are before."""
        self._size = size
        self._no_room = no_room
        self._why = "all workers are busy"
        """What is missing, as the workers said last."""
        self._max_wait_s = max_wait_s
        self._line: deque[asyncio.Event] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def freed(self) -> None:
        """An egress has ended: there may be room."""
        if self._line:
            self._line[0].set()

    async def place(self, start: Callable[[], Awaitable[T]]) -> T:
        """The result of `start` once there is room for it. Raises its EgressError when it is not about
        room, or when waiting is no use any more."""
        if not self._line:
            try:
                return await start()
            except EgressError as error:
                if self._size == 0 or error.code not in BUSY:
                    raise
                refusal = error
                self._why = error.message
        else:
            refusal = EgressError(self._no_room, self._why, fault=Fault.SERVICE)
        if len(self._line) >= self._size:
            raise _more(refusal, f"the queue is full, {self._size} starts are waiting already")
        return await self._wait(start, refusal)

    async def _wait(self, start: Callable[[], Awaitable[T]], refusal: EgressError) -> T:
        until_s = time.monotonic() + self._max_wait_s
        turn = asyncio.Event()
        self._line.append(turn)
        try:
            while (left_s := until_s - time.monotonic()) > 0:
                first = self._line[0] is turn
                try:
                    async with asyncio.timeout(min(left_s, RETRY_S) if first else left_s):
                        await turn.wait()
                except TimeoutError:
                    pass  # the first in line asks again, the others' time is over
                turn.clear()
                if self._line[0] is not turn:
                    continue
                try:
                    return await start()
                except EgressError as error:
                    if error.code not in BUSY:
                        raise
                    refusal = error
            raise _more(refusal, f"it has waited {self._max_wait_s:g} s in the queue")
        finally:
            self._line.remove(turn)
            self.freed()


def _more(refusal: EgressError, what: str) -> EgressError:
    return EgressError(refusal.code, f"{refusal.message}; {what}", fault=refusal.fault, phase=refusal.phase)
