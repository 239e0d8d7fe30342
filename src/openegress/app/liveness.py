"""What /healthz and /readyz check beside the parts themselves: the event loop, and Redis."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from openegress.api.health import Check
from openegress.core.errors import EgressError
from openegress.core.tasks import cancelled, stopped
from openegress.psrpc.redis import RedisBus

BEAT_S = 0.5
LATE_S = 2.0
"""A process whose loop runs this late is unresponsive."""
BEATS = 5
"""How many late turns in a row count. A single one means that the machine was busy, or suspended."""


def lagging(late_s: Sequence[float]) -> str | None:
    """What is wrong with a loop whose latest turns were this late."""
    newest = list(late_s)[-BEATS:]
    if len(newest) < BEATS or min(newest) < LATE_S:
        return None
    return f"its turns come {min(newest):.1f} s late or more: something blocks it"


class EventLoop:
    """Measures how late the event loop is, from start() to close()."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._late_s: deque[float] = deque(maxlen=BEATS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="event loop watch")

    async def close(self) -> None:
        await cancelled(self._task)

    async def check(self) -> str | None:
        return stopped(self._task) or lagging(self._late_s)

    async def _run(self) -> None:
        while True:
            due_s = self._now_s() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._late_s.append(self._now_s() - due_s)


def answers(bus: RedisBus) -> Check:
    """Whether Redis answers. Liveness ignores it: restarting this process does not repair Redis."""

    async def check() -> str | None:
        try:
            await bus.ping()
        except EgressError as error:
            return error.message
        return None

    return check
