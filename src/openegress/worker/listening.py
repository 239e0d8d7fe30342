"""Reads a handler's messages no faster than the service has time for, and kills a handler that has gone
silent."""

import asyncio
import time
from collections.abc import AsyncGenerator

import structlog

from openegress.core import ipc
from openegress.core.events import Composing
from openegress.worker.handler_pace import HandlerPace
from openegress.worker.process import HandlerProcess

_log = structlog.get_logger(__name__)

_SILENCE_S = 30.0
"""Limit for a handler's silence. It sends something every second, so a handler that is silent this long
hangs, and is replaced."""
_COMPOSING_SILENCE_S = 1800.0
"""Limit for a handler that composes: it uses what the machine has left, which may be nothing for a while."""
_LAST_CHANCE_S = 3.0
"""Time for one more read before a silent handler is killed. If this process itself stood still, messages wait
to be read."""
_READ_S = 0.00005
"""CPU time that is counted for reading one message."""


async def listen(handler: HandlerProcess, egress_id: str) -> AsyncGenerator[ipc.ToWorker, None]:
    """Yields messages until the last one. Kills a silent handler. The messages of one that sends too much
    wait until they are read."""
    pace = HandlerPace()
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
        await pace.spend(_READ_S + time.thread_time() - began_s)
