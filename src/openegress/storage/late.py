"""Uploads that come after their recording has ended: of what was given up, or left by a process that died.

Its paths are free meanwhile, and another recording may have been stored there. That one is newer, and stays:
what the storage has changed since this recording stopped is somebody else's, unless an earlier recovery wrote
it. That one noted when; or, where its answer was lost or it was killed, how many bytes it was about to write.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Protocol

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.storage import Storage
from openegress.storage.journal import LOCK, Journal

MARGIN_S = 5.0
"""Storages tell whole seconds, by clocks of their own; what the recording sent last may arrive late."""
_STOPPED = "stopped_s"
_STORED = "stored late "
_SENT = "sent late "


class Superseded(EgressError):
    """A newer recording is stored where this one was to go. No repetition and no other storage cures that."""


class Sent(Protocol):
    """What recoveries of one egress have sent, by path. Methods may block."""

    def stored_s(self, path: str) -> float:
        """When it was stored, as the storage says; 0: never."""

    def sent_bytes(self, path: str) -> int:
        """How large what was sent last is; -1: nothing was."""

    def note_sent(self, path: str, size_bytes: int) -> None: ...

    def note_stored(self, path: str, at_s: float) -> None: ...


class SentByJournal:
    """A full disk forgets, as storing makes room there."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def stored_s(self, path: str) -> float:
        return float(self._journal.facts.get(_STORED + path, 0.0))

    def sent_bytes(self, path: str) -> int:
        return int(self._journal.facts.get(_SENT + path, -1))

    def note_sent(self, path: str, size_bytes: int) -> None:
        if self.sent_bytes(path) != size_bytes:
            with contextlib.suppress(EgressError):
                self._journal.note(_SENT + path, size_bytes)

    def note_stored(self, path: str, at_s: float) -> None:
        with contextlib.suppress(EgressError):
            self._journal.note(_STORED + path, at_s)


class LateUploads:
    """Of one egress. `stopped_s`: when it wrote for the last time, in unix seconds."""

    def __init__(self, stopped_s: float, sent: Sent) -> None:
        self._stopped_s = stopped_s
        self._sent = sent

    @classmethod
    def of(cls, journal: Journal) -> "LateUploads":
        """Blocking. The first recovery notes when the recording stopped, as its own work changes files."""
        stopped_s = journal.facts.get(_STOPPED)
        if stopped_s is None:
            stopped_s = last_change_s(journal.folder)
            with contextlib.suppress(EgressError):  # a full disk, for which storing makes room
                journal.note(_STOPPED, stopped_s)
        return cls(float(stopped_s), SentByJournal(journal))

    async def begin(self, storage: Storage, path: str, size_bytes: int) -> None:
        """So much is about to be stored there. Raises Superseded for an object that is newer than the
        recording and not its own. An identity that may write and not look cannot tell."""
        changed_s = await storage.changed_s(path)
        if changed_s is not None and changed_s > self._stopped_s + MARGIN_S:
            await self._refuse_others(storage, path, changed_s)
        await asyncio.to_thread(self._sent.note_sent, path, size_bytes)

    async def stored(self, storage: Storage, path: str) -> None:
        """Should this recovery be cut off, the next one finds an object of its own there."""
        if (changed_s := await storage.changed_s(path)) is not None:
            await asyncio.to_thread(self._sent.note_stored, path, changed_s)

    async def _refuse_others(self, storage: Storage, path: str, changed_s: float) -> None:
        if changed_s == self._sent.stored_s(path):
            return
        sent_bytes = self._sent.sent_bytes(path)
        if sent_bytes >= 0 and await storage.size(path) == sent_bytes:
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed_s))
        raise Superseded(
            Code.ALREADY_EXISTS,
            f"{path!r} holds another recording, stored {since}, after this one had ended: that one is kept",
            fault=Fault.SERVICE,
            phase=Phase.STORAGE_WRITE,
        )


def last_change_s(folder: Path) -> float:
    """When the process that is at work on it wrote last, in unix seconds. A folder changes when a file in it
    has been stored, and goes. Blocking."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.name != LOCK)
