"""Puts the files of one egress, or of a clip, into local storages, where its handler may not write.

The handler decodes what strangers send, and an attacker may control it. So it is not believed: the file must
be in its own folder of the spool, and its Permits must have the path.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from openegress.core import ipc
from openegress.core.daemon_thread import submit
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import LocalStorage
from openegress.core.tasks import SideTasks
from openegress.storage.local import LocalFolder
from openegress.worker.handler_pace import HandlerPace

_log = structlog.get_logger(__name__)

_PATIENCE_S = 5.0
"""How long to wait for the puts of a handler that is gone. On a disk that hangs they take longer, and put
nothing in its place then."""
_PUT_S = 0.002
"""CPU time that is counted for a put: that of a small file. A large one is linked, or copied no faster than
the disk takes it."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The permission to write to one path."""

    storage: LocalStorage
    replaces: bool
    """Whether an existing file may be replaced."""


class Permits(Protocol):
    def permit(self, asked: ipc.PutFile, folder: Path) -> Permit | None:
        """Returns None if the handler may not write to the path. `folder` is its own in the spool.
        Blocking."""


class LocalPuts:
    def __init__(self, owner: str, permits: Permits) -> None:
        """`owner` is the id of the egress or the clip."""
        self._owner = owner
        self._permits = permits
        self._running = SideTasks("putting a file in its place failed")
        self._pace = HandlerPace()
        self._count = 0
        self._is_over = threading.Event()
        """Set when the handler that asks is gone."""

    def begin(self, asked: ipc.PutFile, folder: Path, reply: Callable[[ipc.FilePut], None]) -> None:
        """Returns at once: the disk may be slow. `folder` is the handler's own in the spool. Raises
        ValueError if the handler asks for more than our recorder ever does."""
        if self._count >= ipc.MAX_PUTS:
            raise ValueError("more files to put in their places than any recording has at once")
        self._count += 1
        self._running.begin(self._answer(asked, folder, reply))

    async def end(self) -> None:
        """Gives up what has not been put in its place, as the handler that asked is gone."""
        self._is_over.set()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._running.wait()
        except TimeoutError:
            _log.warning("a local storage does not answer", egress_id=self._owner)
            await self._running.cancel()
        self._is_over = threading.Event()
        self._count = 0

    async def _answer(self, asked: ipc.PutFile, folder: Path, reply: Callable[[ipc.FilePut], None]) -> None:
        # Not in a thread of the loop's pool, which others would miss while the disk does not answer.
        putting = submit(f"put {self._owner}", partial(self._put, asked, folder, self._is_over))
        try:
            await asyncio.wrap_future(putting)
        except EgressError as error:
            answer = ipc.FilePut(asked.call, error.code.value, error.message, error.fault.value)
        except Exception as error:
            _log.exception("a file could not be put in its place", egress_id=self._owner)
            answer = ipc.FilePut(asked.call, Code.INTERNAL.value, repr(error), Fault.SERVICE.value)
        else:
            answer = ipc.FilePut(asked.call)
        await self._pace.spend(_PUT_S)
        self._count -= 1
        reply(answer)

    def _put(self, asked: ipc.PutFile, folder: Path, is_over: threading.Event) -> None:
        """Raises EgressError."""
        permit = self._permits.permit(asked, folder)
        if permit is None:
            _log.error("a recording may not write to this path", egress_id=self._owner, path=asked.path)
            raise EgressError(
                Code.PERMISSION_DENIED,
                f"{asked.path!r} is not a name of this recording",
                fault=Fault.SERVICE,
                phase=Phase.STORAGE_WRITE,
            )
        with LocalFolder(LocalStorage(str(folder))).source(asked.local) as source:
            LocalFolder(permit.storage).store(
                source, asked.path, replaces=permit.replaces, is_wanted=lambda: not is_over.is_set()
            )
