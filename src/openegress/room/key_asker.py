"""Asks a key service for the keys of people who encrypt: when they first appear, when a frame shows that
another key is needed, and when the service said to ask again.

Nobody in the room can cause more than a bounded number of questions: a participant whose keys do not come is
asked about less and less often, and a room asks only so often in total.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openegress.core.backoff import Backoff
from openegress.core.errors import EgressError
from openegress.core.room_keys import KeyAnswer, KeyQuestion, KeyService
from openegress.core.tasks import cancelled
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.core.units import S

RETRY_BACKOFF = Backoff(first_s=2.0, ceiling_s=15.0, least=0.75)
"""Pauses between questions about one participant, while answers do not help."""
QUESTIONS = RefillRate(0.5, 6)
"""Limit for the questions of one room: per second, and at once."""
SOON_S = 2.0
"""A question that will be allowed within this time is worth waiting for: frames until then do not count as
lost."""
AFTER_FAILURE_S = 5.0
"""Minimum time before a service that did not answer is asked again."""
MAX_ASKED = 1000
"""Limit for the people whose questions are remembered."""


@dataclass(slots=True)
class _Asked:
    """The questions about one participant."""

    answers: int = 0
    """Answers in a row that did not help."""
    again_at_s: float = 0.0
    """No question before this time."""


class KeyAsker:
    """Implements frame_cipher.KeyAsking, and owns the task that asks."""

    def __init__(
        self,
        service: KeyService,
        take: Callable[[KeyAnswer], None],
        told: Callable[[str], None],
        locked: Callable[[], frozenset[str]],
    ) -> None:
        """`take` gets the service's keys; then `told` gets why there is no answer, or "". `locked` returns
        the identities of those who have tracks but no key."""
        self._service = service
        self._take = take
        self._told = told
        self._locked = locked
        self._asked: dict[str, _Asked] = {}
        self._wanted: dict[str, int | None] = {}
        """The index of the missing key, by identity."""
        self._under_way: frozenset[str] = frozenset()
        self._bucket = TokenBucket(QUESTIONS)
        self._refresh_at_s: float | None = None
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def want(self, identity: str, index: int | None = None) -> bool:
        """See KeyAsking."""
        if identity in self._under_way or identity in self._wanted:
            return True
        now_s = asyncio.get_running_loop().time()
        asked = self._asked.get(identity) or self._first_asked(identity, now_s)
        if asked is None or asked.again_at_s > now_s + SOON_S:
            return False
        if now_s > asked.again_at_s + RETRY_BACKOFF.ceiling_s:
            asked.answers = 0
        self._wanted[identity] = index
        self._woken.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="asking for keys")
        return True

    async def close(self) -> None:
        await cancelled(self._task)

    def _first_asked(self, identity: str, now_s: float) -> _Asked | None:
        """The record for a participant who was not asked about before; None: there are too many."""
        if len(self._asked) >= MAX_ASKED:
            self._asked = {
                each: asked
                for each, asked in self._asked.items()
                if asked.again_at_s > now_s or each in self._wanted or each in self._under_way
            }
        if len(self._asked) >= MAX_ASKED:
            return None
        return self._asked.setdefault(identity, _Asked())

    async def _run(self) -> None:
        while True:
            await self._until_due()
            await self._until_allowed()
            now_s = asyncio.get_running_loop().time()
            due = {each: index for each, index in self._wanted.items() if self._may_ask(each, now_s)}
            self._wanted = {each: index for each, index in self._wanted.items() if each not in due}
            self._under_way = frozenset(due)
            try:
                problem = await self._ask(due)
            finally:
                self._under_way = frozenset()
            self._told(problem)

    async def _ask(self, due: dict[str, int | None]) -> str:
        """Asks the key service. Returns why there is no answer, or "". If nobody is due, it repeats the
        previous question."""
        indices = set(due.values())
        index = indices.pop() if len(indices) == 1 else None
        question = KeyQuestion(tuple(sorted(due or self._asked)), index)
        loop = asyncio.get_running_loop()
        try:
            answer = await self._service.ask(question)
        except EgressError as error:
            self._put_off(due, AFTER_FAILURE_S)
            if self._refresh_at_s is not None:
                self._refresh_at_s = loop.time() + RETRY_BACKOFF.ceiling_s
            return error.message
        self._put_off(due, 0.0)
        self._refresh_at_s = None if answer.refresh_s is None else loop.time() + answer.refresh_s
        self._take(answer)
        return ""

    def _put_off(self, identities: Iterable[str], least_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        for asked in [self._asked[identity] for identity in identities if identity in self._asked]:
            asked.answers += 1
            asked.again_at_s = now_s + max(least_s, RETRY_BACKOFF.delay_s(asked.answers))

    def _may_ask(self, identity: str, now_s: float) -> bool:
        asked = self._asked.get(identity)
        return asked is None or asked.again_at_s <= now_s

    async def _until_due(self) -> None:
        """Waits until somebody's key may be requested, or the service must be asked again."""
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            locked = self._locked()
            for identity in locked & self._asked.keys():
                if self._may_ask(identity, loop.time()):
                    self._wanted.setdefault(identity, None)
            waiting = locked | self._wanted.keys()
            due_s = [asked.again_at_s for each, asked in self._asked.items() if each in waiting]
            due_s += [] if self._refresh_at_s is None else [self._refresh_at_s]
            at_s = min(due_s, default=None)
            if at_s is not None and at_s <= loop.time():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(at_s):
                    await self._woken.wait()

    async def _until_allowed(self) -> None:
        """Waits until QUESTIONS allows another question. More keys may be needed meanwhile."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._bucket.wait_s(1, int(loop.time() * S)))
        self._bucket.spend(1, int(loop.time() * S))
