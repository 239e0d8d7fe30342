"""Objects of one output on their way to the storage, one after the other in the order they were made."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from openegress.core.errors import EgressError, Fault
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Stored, Uploader

_UNANSWERED = 2
"""Failures of a storage in a row, at the end, that mean it is away: the rest waits in the spool."""


@dataclass(frozen=True, slots=True)
class Upload:
    local: Path
    path: str
    """In the storage."""
    content_type: str
    then: Callable[[Stored], Awaitable[None]]
    """Awaited once it is stored, before the next upload; raises EgressError when it could not do its part."""
    keep_local: bool = False
    late: LateUploads | None = None
    """Where it was made by a process that has died since."""


class OrderedUploads:
    """Stores what add() is given, in order, in one task.

    The uploader repeats what may pass. What it gives up stays on the disk and at the head of the queue,
    and is tried again when the next object comes: none is overtaken. At the end each is tried once more by
    itself, so that one that cannot be stored does not keep the others back.
    """

    def __init__(self, uploader: Uploader) -> None:
        """Called in the event loop, in which the uploads run."""
        self._uploader = uploader
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Upload] = deque()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        """Nothing is being uploaded: the queue is empty, or its head was given up for now."""
        self._ending = False
        self._abandoned = False
        self._loop = asyncio.get_running_loop()

    @property
    def pending(self) -> int:
        return len(self._queue)

    def add(self, upload: Upload) -> None:
        """Thread-safe; never blocks."""
        self._loop.call_soon_threadsafe(self._add, upload)

    async def settled(self) -> None:
        """Returns when everything added until now was stored, or given up for now."""
        passed: asyncio.Future[None] = self._loop.create_future()
        # Behind the add() calls that other threads have made.
        self._loop.call_soon_threadsafe(passed.set_result, None)
        await passed
        await self._settled.wait()

    async def finish(self) -> None:
        """Returns when everything is stored; raises the EgressError of what could not be.

        Call it after the last add() has returned: it goes through the event loop as well.
        """
        passed: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon_threadsafe(passed.set_result, None)
        await passed
        self._ending = True
        self._changed.set()
        if self._task is not None:
            await self._task

    async def abandon(self) -> None:
        """Instead of finish(), where the disk that they lie on does not answer: what is not stored waits
        there."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _add(self, upload: Upload) -> None:
        if self._abandoned:
            return
        self._queue.append(upload)
        self._settled.clear()
        self._changed.set()
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        while True:
            while not self._queue:
                if self._ending:
                    return
                self._changed.clear()
                self._settled.set()
                await self._changed.wait()
            if self._ending:
                await self._store_rest()
                return
            self._changed.clear()
            try:
                await self._store(self._queue[0])
            except EgressError:
                # Not told yet: whether something is lost shows at the end.
                if not self._ending:
                    self._settled.set()
                    await self._changed.wait()

    async def _store_rest(self) -> None:
        """Raises the first EgressError when all were tried, or the storage is away."""
        first: EgressError | None = None
        unanswered = 0
        while self._queue and unanswered < _UNANSWERED:
            upload = self._queue[0]
            try:
                await self._store(upload)
                unanswered = 0
            except EgressError as error:
                first = first or error
                if error.fault is Fault.DESTINATION:
                    # It has had all the time there is: the next are not to wait as long, one after another.
                    unanswered += 1
                    self._uploader.stop_retrying()
                if self._queue and self._queue[0] is upload:
                    self._queue.popleft()
        if first is not None:
            raise first

    async def _store(self, upload: Upload) -> None:
        stored = await self._uploader.put(
            upload.local,
            upload.path,
            upload.content_type,
            delete_local=not upload.keep_local,
            late=upload.late,
        )
        # Stored once is stored: what follows (a playlist) is made anew with the next object.
        self._queue.popleft()
        await upload.then(stored)
