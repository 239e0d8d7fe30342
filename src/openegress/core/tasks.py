"""Tasks that run until their owner cancels them, and what must not end them."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def cancellable(awaitable: Awaitable[T]) -> T:
    """Awaits something that may swallow a cancellation, and passes it on.

    Before Python 3.12, asyncio.wait_for() swallows a cancellation that arrives while its future ends
    (python/cpython#86296): a library that uses it would keep a task running that its owner waits for.
    """
    task = asyncio.current_task()
    assert task is not None
    asked_before = task.cancelling()
    result = await awaitable
    if task.cancelling() > asked_before:
        raise asyncio.CancelledError
    return result


class BackgroundTask(ABC):
    """Work that runs as one task from start() to close()."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        await cancelled(self._task)

    async def stopped(self) -> str | None:
        """For health checks: why it no longer runs; None while it does."""
        return stopped(self._task)

    @abstractmethod
    async def _run(self) -> None:
        """Runs until it is cancelled."""


def stopped(task: "asyncio.Task[Any] | None") -> str | None:
    """Why the task no longer runs; None while it runs, before it began and after its owner closed it."""
    if task is None or not task.done() or task.cancelled():
        return None
    error = task.exception()
    why = f"failed ({type(error).__name__})" if error is not None else "ended"
    return f"its task {task.get_name()} {why}: restart this process"


async def cancelled(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancels the tasks and returns once all have ended, however that is. None: a task that never began."""
    begun = [task for task in tasks if task is not None]
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


class SideTasks:
    """Tasks that run beside their owner's work and end by themselves."""

    def __init__(self, failure: str) -> None:
        """`failure`: the log's message for a task that raised."""
        self._failure = failure
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, errand: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(errand)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Returns when no task is running, including those that begin meanwhile."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    async def cancel(self) -> None:
        for task in self._running:
            task.cancel()
        await self.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s", self._failure, exc_info=error)


@contextlib.contextmanager
def non_fatal(what: str) -> Iterator[None]:
    """Logs and suppresses an exception of side work: a metric, a log line, a watcher."""
    try:
        yield
    except Exception:
        _log.exception("%s failed; what it belongs to goes on", what)
