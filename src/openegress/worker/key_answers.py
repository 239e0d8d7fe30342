"""Answers a handler's questions for the keys of its room, concurrently with its other messages."""

import time
from collections.abc import Awaitable, Callable

from openegress.core import ipc
from openegress.core.errors import Code, EgressError
from openegress.core.plan import Plan
from openegress.core.room_keys import KeyAnswer, KeyQuestion
from openegress.core.tasks import SideTasks
from openegress.core.token_bucket import RefillRate, TokenBucket

AskKeys = Callable[[Plan, KeyQuestion], Awaitable[KeyAnswer]]
"""Asks the key service of the egress' room. Raises EgressError."""

_RATE = RefillRate(1.0, 20)
"""Questions of one recording per second, and at once. A handler asks half as often. A handler under an
attacker's control must not keep the key service busy."""


class KeyAnswers:
    """The questions of one egress."""

    def __init__(self, plan: Plan, ask: AskKeys | None) -> None:
        """`ask`: None if the room has no key service."""
        self._plan = plan
        self._ask = ask
        self._running = SideTasks("a question for keys failed")
        self._bucket = TokenBucket(_RATE)

    def begin(self, asked: ipc.AskKeys, reply: Callable[[ipc.KeysGiven], None]) -> None:
        """Returns at once: a key service may be slow."""
        self._running.begin(self._answer(asked, reply))

    async def cancel(self) -> None:
        await self._running.cancel()

    async def _answer(self, asked: ipc.AskKeys, reply: Callable[[ipc.KeysGiven], None]) -> None:
        try:
            given = ipc.KeysGiven(asked.call, await self._keys(asked.question))
        except EgressError as error:
            given = ipc.KeysGiven(asked.call, error=error.message)
        reply(given)

    async def _keys(self, question: KeyQuestion) -> KeyAnswer:
        if self._ask is None:
            raise EgressError(Code.FAILED_PRECONDITION, "its room has no key service")
        if not self._bucket.spend(1, time.monotonic_ns()):
            raise EgressError(Code.RESOURCE_EXHAUSTED, "the recording asks for keys too often")
        return await self._ask(self._plan, question)
