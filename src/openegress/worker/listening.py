"""Reads a handler's messages, no faster than the service has time for, and ends a handler that has gone
silent."""

import asyncio
import time
from collections.abc import AsyncGenerator

import structlog

from openegress.core import ipc
from openegress.core.events import Composing
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.worker.process import HandlerProcess

_log = structlog.get_logger(__name__)

_SILENCE_S = 30.0
"""A handler sends something every second; one that is silent this long hangs, and is replaced."""
_COMPOSING_SILENCE_S = 1800.0
"""A handler that composes uses what the machine has left, which may be nothing for a while."""
_LAST_CHANCE_S = 3.0
"""This process may have stood still itself: then messages wait to be read."""
_ATTENTION = RefillRate(0.1, 1.0)
"""CPU seconds for a second of one handler's messages. A recording needs a hundredth of that. One that was
taken over may say anything without end, and all others share the service's event loop."""
_READ_S = 0.00005
"""What it takes to read one message."""
_MOST_S = 0.25
"""Of one message. Where its reader waits for something, others use the thread meanwhile."""
_TURN_S = 0.01
"""After this much of one handler it is the others' turn."""


async def listen(handler: HandlerProcess, egress_id: str) -> AsyncGenerator[ipc.ToWorker, None]:
    """Reads until the last message. Kills a silent handler. One that says too much waits until it is read."""
    pace = _Pace()
    messages, silence_s = handler.messages(), _SILENCE_S
    patience_s = silence_s
    while True:
        try:
            async with asyncio.timeout(patience_s):
                message = await anext(messages, None)
        except TimeoutError:
            messages = handler.messages()
            if patience_s == silence_s:
                patience_s = _LAST_CHANCE_S
                continue
            if not handler.alive:
                return  # and yet another process holds its channel
            _log.error("the recording process is silent: killing it", egress_id=egress_id)
            await handler.dump_stacks()
            handler.kill()
            continue
        if message is None:
            return
        if isinstance(message, Composing):
            silence_s = _COMPOSING_SILENCE_S
        patience_s = silence_s
        began_s = time.thread_time()
        yield message
        await pace.spend(_READ_S + min(time.thread_time() - began_s, _MOST_S))


class _Pace:
    """Of the messages of one handler."""

    def __init__(self) -> None:
        self._attention = TokenBucket(_ATTENTION)
        self._turn_s = 0.0

    async def spend(self, cpu_s: float) -> None:
        self._turn_s += cpu_s
        now_ns = time.monotonic_ns()
        if not self._attention.spend(cpu_s, now_ns):
            self._turn_s = 0.0
            await asyncio.sleep(-self._attention.left(now_ns) / _ATTENTION.per_s)
        elif self._turn_s >= _TURN_S:
            self._turn_s = 0.0
            await asyncio.sleep(0)
