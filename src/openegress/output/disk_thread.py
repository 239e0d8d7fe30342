"""A thread for work on a disk that may never answer: a dead network mount, a failing drive."""

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
"""A local disk opens a file at once; a dead network mount never."""

CLOSE_TIMEOUT_S = 60.0
"""Writing what is queued and the index of a long recording on a slow disk."""

ANSWER_TIMEOUT_S = 60.0
"""For small things: a disk that takes longer over them is dead."""

_SYNC_S = 300.0
"""For a flush behind all that the recordings beside it have yet to put on the disk."""
_SLOWEST_BYTES_S = 1024 * 1024
"""Of a file that is read and written anew: the pace of a disk that can barely take a recording. 100 GB have
27 hours."""


def patience_s(size_bytes: int) -> float:
    """With a file of that size that is gone through and written anew."""
    return _SYNC_S + size_bytes / _SLOWEST_BYTES_S


class DiskThread:
    """Does what it is given, in order. A daemon, as those of core.daemon_thread."""

    def __init__(self, name: str) -> None:
        """`name`: what it does, for the thread and for errors."""
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Never blocks. A call that was not begun can be cancelled."""
        result: Future[T] = Future()
        self._calls.put(functools.partial(settle, result, call))
        return result

    async def result(self, call: Callable[[], T], timeout_s: float) -> T:
        """What it returns, after all that was submitted before. Raises what it raises, and EgressError
        (DEADLINE_EXCEEDED) when it has not ended in time: the thread is then left to itself."""
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
        """Returns when it has done all it was given, and is over. Raises as result()."""
        try:
            await self.result(lambda: None, timeout_s)
        finally:
            self.close()

    def close(self) -> None:
        """It ends when it has done what it was given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


async def in_time(name: str, call: Callable[[], T], timeout_s: float = ANSWER_TIMEOUT_S) -> T:
    """What `call` returns, from a thread of its own. Raises as DiskThread.result()."""
    thread = DiskThread(name)
    try:
        return await thread.result(call, timeout_s)
    finally:
        thread.close()
