"""Queues start requests until a worker is free, first come, first served."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from openegress.core.errors import Code, EgressError, Fault

RETRY_S = 2.0
"""Interval at which the first in line tries again, as load falls without notice. It also tries whenever an
egress ends."""
BUSY = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})

T = TypeVar("T")


class StartQueue:
    """The queue. At most `size` starts wait, each at most `max_wait_s` seconds. With size 0, a start never
    waits."""

    def __init__(self, size: int, max_wait_s: float, no_room: Code = Code.UNAVAILABLE) -> None:
        """`no_room` is the error code of a start that finds others in the queue."""
        self._size = size
        self._no_room = no_room
        self._why = "all workers are busy"
        """The workers' last reason for a refusal."""
        self._max_wait_s = max_wait_s
        self._line: deque[asyncio.Event] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def freed(self) -> None:
        """Lets the first in line try again, as an egress has ended and there may be room."""
        if self._line:
            self._line[0].set()

    async def place(self, start: Callable[[], Awaitable[T]]) -> T:
        """Runs `start` once a worker has room, and returns its result. Raises its EgressError at once if the
        error is not about room, or if the queue is full or `max_wait_s` is over."""
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
                    pass  # the first in line tries again; others have waited too long
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
