"""Controls uploads after the end of their recording: of files that were given up, or left by a dead process.

The recording's paths are no longer claimed by then, and a newer recording may have been stored there. The
newer one is kept. An object that changed after this recording stopped belongs to another recording, unless an
earlier recovery of this one wrote it. Each recovery therefore notes when the storage took an object, and
before that how many bytes it is about to send, in case it is killed or the answer is lost.
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
"""Margin for comparing times: storages report whole seconds by their own clocks, and the last upload of the
recording may arrive late."""
_STOPPED = "stopped_s"
_STORED = "stored late "
_SENT = "sent late "


class Superseded(EgressError):
    """Raised if a newer recording is stored at the path of this one. Neither a retry nor another storage
    helps."""


class Sent(Protocol):
    """What recoveries of one egress have sent, by path. Methods may block on the disk."""

    def stored_s(self, path: str) -> float:
        """The time at which a recovery stored the object, in unix seconds by the storage's clock; 0: none
        has."""

    def sent_bytes(self, path: str) -> int:
        """The size of the last upload that a recovery began; -1: it began none."""

    def note_sent(self, path: str, size_bytes: int) -> None: ...

    def note_stored(self, path: str, at_s: float) -> None: ...


class SentByJournal:
    """Keeps the notes in the journal. On a full disk they are lost, and the upload goes on: it frees
    space."""

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
    """The late uploads of one egress. `stopped_s` is the time of the egress' last write, in unix seconds."""

    def __init__(self, stopped_s: float, sent: Sent) -> None:
        self._stopped_s = stopped_s
        self._sent = sent

    @classmethod
    def of(cls, journal: Journal) -> "LateUploads":
        """The late uploads of a recording that has stopped. The first recovery notes when that was, before
        its own work changes files. Blocking."""
        stopped_s = journal.facts.get(_STOPPED)
        if stopped_s is None:
            stopped_s = last_change_s(journal.folder)
            with contextlib.suppress(EgressError):  # a full disk; uploading frees space
                journal.note(_STOPPED, stopped_s)
        return cls(float(stopped_s), SentByJournal(journal))

    async def begin(self, storage: Storage, path: str, size_bytes: int) -> None:
        """Prepares an upload of `size_bytes` to `path`; call it before. Raises Superseded if another
        recording has stored a newer object there. With write-only credentials this cannot be detected."""
        changed_s = await storage.changed_s(path)
        if changed_s is not None and changed_s > self._stopped_s + MARGIN_S:
            await self._refuse_others(storage, path, changed_s)
        await asyncio.to_thread(self._sent.note_sent, path, size_bytes)

    async def stored(self, storage: Storage, path: str) -> None:
        """Notes a completed upload, so that the next recovery recognises the object as its own."""
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
    """The time at which the process that works on the folder wrote last, in unix seconds. Folders count too:
    they change when a stored file is removed from them. Blocking."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.name != LOCK)
