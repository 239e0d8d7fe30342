"""Uploads the objects of one output to the storage, one after the other in the order they were made."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from openegress.core.errors import EgressError, Fault
from openegress.core.tasks import cancelled
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Stored, Uploader

_UNANSWERED = 2
"""Number of failures in a row at the end after which the storage counts as down: the rest stays in the
spool."""


class _UploadsState(Enum):
    OPEN = auto()
    """More objects may come."""
    FINISHING = auto()
    """No more objects come; each remaining one is tried once more."""
    ABANDONED = auto()
    """Nothing more is uploaded."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to upload."""

    local: Path
    path: str
    """Path in the storage."""
    content_type: str
    then: Callable[[Stored], Awaitable[None]]
    """Awaited when the object is stored, before the next upload. May raise EgressError."""
    keep_local: bool = False
    late: LateUploads | None = None
    """Set if the object was made by a process that has died since."""


class OrderedUploads:
    """Uploads the objects that add() is given, in order, in one task.

    The uploader retries errors that may pass. An object that it gives up stays on the disk and at the head of
    the queue, and is tried again when the next object comes, so the order is kept. At the end each object is
    tried once more separately, so that one that cannot be stored does not block the others.
    """

    def __init__(self, uploader: Uploader) -> None:
        """Call it in the event loop, in which the uploads run."""
        self._uploader = uploader
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Upload] = deque()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        """Set while nothing is being uploaded: the queue is empty, or its head was given up for now."""
        self._state = _UploadsState.OPEN
        self._loop = asyncio.get_running_loop()

    @property
    def pending(self) -> int:
        return len(self._queue)

    @property
    def _is_finishing(self) -> bool:
        return self._state is _UploadsState.FINISHING

    def add(self, upload: Upload) -> None:
        """Queues an upload. Thread-safe; never blocks."""
        self._loop.call_soon_threadsafe(self._add, upload)

    async def settled(self) -> None:
        """Returns when everything added so far is stored, or given up for now."""
        await self._earlier_adds()
        await self._settled.wait()

    async def finish(self) -> None:
        """Returns when everything is stored. Raises the first EgressError of what could not be stored.

        Call it after the last add() has returned.
        """
        await self._earlier_adds()
        self._state = _UploadsState.FINISHING
        self._changed.set()
        if self._task is not None:
            await self._task

    async def abandon(self) -> None:
        """Stops uploading; objects that are not stored stay on the disk. Call it instead of finish() if the
        disk of the objects does not answer."""
        self._state = _UploadsState.ABANDONED
        await cancelled(self._task)

    async def _earlier_adds(self) -> None:
        """Returns when the event loop has handled the add() calls that other threads have made."""
        passed: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon_threadsafe(passed.set_result, None)
        await passed

    def _add(self, upload: Upload) -> None:
        if self._state is _UploadsState.ABANDONED:
            return
        self._queue.append(upload)
        self._settled.clear()
        self._changed.set()
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        while True:
            while not self._queue:
                if self._is_finishing:
                    return
                self._changed.clear()
                self._settled.set()
                await self._changed.wait()
            if self._is_finishing:
                await self._store_rest()
                return
            self._changed.clear()
            try:
                await self._store(self._queue[0])
            except EgressError:
                # Not reported yet: the object may still be stored at the end.
                if not self._is_finishing:
                    self._settled.set()
                    await self._changed.wait()

    async def _store_rest(self) -> None:
        """Tries all remaining objects. Raises the first EgressError when all were tried, or the storage is
        down."""
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
                    # The storage has had the whole time for retries. The next objects are tried only once.
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
        # The object stays stored if `then` fails: what `then` makes (a playlist) is made again with the next.
        self._queue.popleft()
        await upload.then(stored)
