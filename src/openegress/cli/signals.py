"""How the process ends: it drains first, and stops at the second signal or with Ctrl-C."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class Signals:
    """SIGTERM and SIGQUIT ask for a drain, SIGINT for an immediate, proper stop."""

    def __init__(self) -> None:
        self._drain = asyncio.Event()
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(number, self._on_drain, number)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)

    async def run_unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether `work` finished; if the process is told to end before that, `work` is cancelled."""
        working = asyncio.ensure_future(work)
        told = [asyncio.create_task(event.wait()) for event in (self._drain, self._stop)]
        try:
            await asyncio.wait([working, *told], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            return False
        finally:
            for task in (working, *told):
                task.cancel()
            await asyncio.gather(working, *told, return_exceptions=True)

    async def run_until_stopped(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Returns when it is time to close: drained, or told to stop at once."""
        draining = asyncio.create_task(self._drain.wait())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return
            _log.info("draining: no new egress is taken; SIGINT stops those that run")
            drained = asyncio.ensure_future(drain())
            await asyncio.wait([drained, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not drained.done():
                drained.cancel()
                await asyncio.gather(drained, return_exceptions=True)
        finally:
            for task in (draining, stopping):
                task.cancel()
            await asyncio.gather(draining, stopping, return_exceptions=True)

    def _on_drain(self, number: signal.Signals) -> None:
        if self._drain.is_set():
            self._stop.set()
        self._drain.set()
