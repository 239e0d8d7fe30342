"""Limits how much of the service's time one handler gets. They all share its event loop, and a handler under
an attacker's control may send without end."""

import asyncio
import time

from openegress.core.token_bucket import RefillRate, TokenBucket

_ATTENTION = RefillRate(0.1, 1.0)
"""The CPU seconds that a handler gets per second. A recording needs a hundredth of that."""
_TURN_S = 0.01
"""The CPU time after which other tasks get a turn."""
_MAX_S = 0.25
"""Limit for what counts for one message. If its reader waits for something, others use the thread
meanwhile."""


class HandlerPace:
    """The pace of one stream that a handler writes to. Nothing is lost: messages wait until they are read."""

    def __init__(self) -> None:
        self._attention = TokenBucket(_ATTENTION)
        self._turn_s = 0.0

    async def spend(self, cpu_s: float) -> None:
        """Counts the time that a message took the thread, and waits if that was too much. Call it after each
        message."""
        cpu_s = min(cpu_s, _MAX_S)
        self._turn_s += cpu_s
        now_ns = time.monotonic_ns()
        if not self._attention.spend(cpu_s, now_ns):
            self._turn_s = 0.0
            await asyncio.sleep(self._attention.wait_s(0, now_ns))
        elif self._turn_s >= _TURN_S:
            self._turn_s = 0.0
            await asyncio.sleep(0)
