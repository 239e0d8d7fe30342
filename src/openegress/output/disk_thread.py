"""Runs work in a thread, on a disk that may never answer: a dead network mount, a failing drive."""

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from openegress.core.daemon_thread import settle
from openegress.core.errors import Code, EgressError, Fault, Phase

T = TypeVar("T")

OPEN_TIMEOUT_S = 10.0
"""Time-out for opening a file. A local disk opens it at once; a dead network mount never does."""

CLOSE_TIMEOUT_S = 60.0
"""Time-out for writing the queue and the index of a long recording to a slow disk."""

ANSWER_TIMEOUT_S = 60.0
"""Time-out for small files: a disk that takes longer is dead."""

_SYNC_S = 300.0
"""Time-out for a flush that waits for everything that other recordings still have to write."""
_SLOWEST_BYTES_S = 1024 * 1024
"""Rate for reading and rewriting a file, that of a disk that barely takes a recording. 100 GB get 27
hours."""


def patience_s(size_bytes: int) -> float:
    """Returns the time-out for reading and rewriting a file of that size."""
    return _SYNC_S + size_bytes / _SLOWEST_BYTES_S


class DiskThread:
    """Runs calls in order. It is a daemon thread, like those of core.daemon_thread."""

    def __init__(self, name: str) -> None:
        """`name`: name of the thread, also used in errors."""
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Queues a call. Never blocks. A call that has not begun can be cancelled."""
        result: Future[T] = Future()
        self._calls.put(functools.partial(settle, result, call))
        return result

    async def result(self, call: Callable[[], T], timeout_s: float) -> T:
        """Runs a call after everything submitted before, and returns its result. Raises what the call raises,
        and EgressError (DEADLINE_EXCEEDED) when it has not finished in time: the thread is then abandoned."""
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(self.submit(call))
        except TimeoutError:
            raise EgressError(
                Code.DEADLINE_EXCEEDED,
                f"{self._name}: the disk of the recordings did not answer within {timeout_s:g} s; what was "
                "recorded waits there until it does",
                fault=Fault.SERVICE,
                phase=Phase.FINISH,
            ) from None

    async def finish(self, timeout_s: float) -> None:
        """Returns when all calls are done and the thread has ended. Raises like result()."""
        try:
            await self.result(lambda: None, timeout_s)
        finally:
            self.close()

    def close(self) -> None:
        """Makes the thread end after its last call."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


async def in_time(name: str, call: Callable[[], T], timeout_s: float = ANSWER_TIMEOUT_S) -> T:
    """Returns the result of `call`, from a thread of its own. Raises like DiskThread.result()."""
    thread = DiskThread(name)
    try:
        return await thread.result(call, timeout_s)
    finally:
        thread.close()
