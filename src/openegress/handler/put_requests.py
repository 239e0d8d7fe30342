"""Asks the worker to put finished files into local storages: a handler may write to none of their folders."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import Backend, LocalStorage
from openegress.storage import Storage, open_storage
from openegress.storage.local import LocalFolder


class PutRequests:
    """The files of one egress, or of a clip."""

    def __init__(self, folder: Path, send: Callable[[ipc.PutFile], None]) -> None:
        """`folder` is that of the egress in the spool."""
        self._folder = folder
        self._send = send
        self._calls = count()
        self._waiting: dict[int, asyncio.Future[ipc.FilePut]] = {}
        self._slots = asyncio.Semaphore(ipc.MAX_PUTS)
        self._is_lost = False

    async def connect(self, backend: Backend) -> Storage:
        """Like open_storage(). Files for a local storage go to the worker, except for those that stay in the
        spool."""
        if isinstance(backend, LocalStorage) and not Path(backend.root).is_relative_to(self._folder):
            return _WorkersFolder(backend, self)
        return await open_storage(backend)

    async def put(self, local: Path, root: str, path: str) -> None:
        """Returns when the file is in its place. Raises EgressError."""
        below = str(local.relative_to(self._folder))
        await self._slots.acquire()
        if self._is_lost:
            self._slots.release()
            raise _lost()
        call = next(self._calls)
        answer = self._waiting[call] = asyncio.get_running_loop().create_future()
        self._send(ipc.PutFile(call, below, root, path))
        put = await answer
        if put.code:
            raise EgressError(Code(put.code), put.error, fault=Fault(put.fault), phase=Phase.STORAGE_WRITE)

    def answer(self, message: ipc.FilePut) -> None:
        waiting = self._waiting.pop(message.call, None)
        if waiting is None:
            return
        # Not before: of a request that was cancelled, the worker still has the file.
        self._slots.release()
        if not waiting.done():
            waiting.set_result(message)

    def lose_worker(self) -> None:
        """Fails what waits, and what comes: nobody answers any more."""
        self._is_lost = True
        while self._waiting:
            _, waiting = self._waiting.popitem()
            self._slots.release()
            if not waiting.done():
                waiting.set_exception(_lost())


def _lost() -> EgressError:
    # No other storage takes the file, as the next worker finds it in the spool.
    why = "the service has ended; its next start stores the file"
    return EgressError(Code.UNAVAILABLE, why, fault=Fault.SERVICE, phase=Phase.STORAGE_WRITE)


class _WorkersFolder(LocalFolder):
    """A local storage to which the worker writes."""

    def __init__(self, backend: LocalStorage, puts: PutRequests) -> None:
        super().__init__(backend)
        self._backend_root = backend.root
        self._puts = puts

    async def put(self, local: Path, path: str, content_type: str) -> None:
        await self._puts.put(local, self._backend_root, path)
