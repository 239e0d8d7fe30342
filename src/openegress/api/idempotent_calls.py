"""Carries out a request once even if the client repeats it under the same id.

LiveKit's SDKs repeat a call after a transport error or HTTP 5xx with the same X-Livekit-Request-Id. Without
this, a start whose answer was lost would record twice.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

REQUEST_ID_HEADER = "X-Livekit-Request-Id"

KEPT_S = 120.0
"""How long answers are kept: longer than all attempts of an SDK take together."""
KEPT_AT_MOST = 10_000
KEPT_BYTES = 16 * 1024 * 1024
"""Limit for the kept answers: each repeats its request, which may have a megabyte."""
MAX_ID_CHARS = 128

M = TypeVar("M", bound=Message)


@dataclass(slots=True)
class _Answer:
    task: "asyncio.Task[Message]"
    at_s: float
    size_bytes: int = 0
    """Size of the answer; 0 until it is there."""


class IdempotentCalls:
    """Keeps answers by request. Failures are dropped at once, so that a repeated call tries again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[tuple[str, ...], _Answer] = OrderedDict()
        self._bytes = 0

    async def answer(self, key: tuple[str, ...], call: Callable[[], Awaitable[Message]]) -> Message:
        """Returns the answer to the request `key`: that of the earlier call with this key, else that of
        `call`.

        The call goes on if the caller disconnects, as a repeated call will ask for its answer. Raises what
        `call` raises.
        """
        self._forget_old()
        known = self._answers.get(key)
        if known is None:
            task = asyncio.ensure_future(call())
            assert isinstance(task, asyncio.Task)
            known = self._answers[key] = _Answer(task, self._clock())
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(known.task)

    async def close(self) -> None:
        """Waits for calls in progress."""
        tasks = [answer.task for answer in self._answers.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._answers.clear()
        self._bytes = 0

    def _done(self, key: tuple[str, ...], task: "asyncio.Task[Message]") -> None:
        known = self._answers.get(key)
        if known is None or known.task is not task:
            return
        if task.cancelled() or task.exception() is not None:
            del self._answers[key]
            return
        known.size_bytes = task.result().ByteSize()
        self._bytes += known.size_bytes
        self._forget_old()

    def _forget_old(self) -> None:
        oldest_s = self._clock() - KEPT_S
        for key, answer in list(self._answers.items()):
            too_many = len(self._answers) > KEPT_AT_MOST or self._bytes > KEPT_BYTES
            if answer.at_s > oldest_s and not too_many:
                return
            if answer.task.done():
                del self._answers[key]
                self._bytes -= answer.size_bytes
