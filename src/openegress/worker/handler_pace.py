"""How much of the service's time one handler gets: they all share its event loop, and one that was taken over
may say anything without end."""

import asyncio
import time

from openegress.core.token_bucket import RefillRate, TokenBucket

_ATTENTION = RefillRate(0.1, 1.0)
"""CPU seconds for a second. A recording needs a hundredth of that."""
_TURN_S = 0.01
"""After this much it is the others' turn."""
_MOST_S = 0.25
"""Of one message. Where its reader waits for something, others use the thread meanwhile."""


class HandlerPace:
    """Of one stream that a handler writes to. Nothing is lost: it waits until it is read."""

    def __init__(self) -> None:
        self._attention = TokenBucket(_ATTENTION)
        self._turn_s = 0.0

    async def spend(self, cpu_s: float) -> None:
        """Call it after each message, which took the thread this long."""
        cpu_s = min(cpu_s, _MOST_S)
        self._turn_s += cpu_s
        now_ns = time.monotonic_ns()
        if not self._attention.spend(cpu_s, now_ns):
            self._turn_s = 0.0
            await asyncio.sleep(-self._attention.left(now_ns) / _ATTENTION.per_s)
        elif self._turn_s >= _TURN_S:
            self._turn_s = 0.0
            await asyncio.sleep(0)
