"""Requests that a client sends again under one id are carried out once.

LiveKit's SDKs replay a call on a transport error or HTTP 5xx with the same X-Livekit-Request-Id: without
this, a start whose answer got lost on the way would record twice.
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
"""Longer than an SDK's attempts together."""
KEPT_AT_MOST = 10_000
MAX_ID_CHARS = 128

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class _Answer:
    task: "asyncio.Task[Message]"
    at_s: float


class Replays:
    """Answers by request; failures are forgotten, so that a replay tries anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[tuple[str, ...], _Answer] = OrderedDict()

    async def answer(self, key: tuple[str, ...], call: Callable[[], Awaitable[Message]]) -> Message:
        """The answer to the request `key`: the one under way or given before, else that of `call`.

        The call goes on when whoever waits for it goes away: a replay will ask for its answer.
        """
        self._forget_old()
        known = self._answers.get(key)
        if known is None or _failed(known.task):
            task = asyncio.ensure_future(call())
            assert isinstance(task, asyncio.Task)
            task.add_done_callback(_failed)  # looked at even if nobody waits any more
            known = self._answers[key] = _Answer(task, self._clock())
            self._answers.move_to_end(key)
        return await asyncio.shield(known.task)

    async def close(self) -> None:
        """Waits for calls under way."""
        tasks = [answer.task for answer in self._answers.values()]
        self._answers.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_old(self) -> None:
        oldest_s = self._clock() - KEPT_S
        for key, answer in list(self._answers.items()):
            if answer.at_s > oldest_s and len(self._answers) <= KEPT_AT_MOST:
                return
            if answer.task.done():
                del self._answers[key]


def _failed(task: "asyncio.Task[Message]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
