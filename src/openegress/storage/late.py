"""Uploads that come after their recording has ended: of what was given up, or left by a process that died.

Its paths are free meanwhile, and another recording may have been stored there. That one is newer, and stays:
what the storage has changed since this recording stopped is somebody else's, unless an earlier recovery wrote
it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.storage import Storage
from openegress.storage.journal import LOCK, Journal

MARGIN_S = 5.0
"""Storages tell whole seconds, by clocks of their own; what the recording sent last may arrive late."""
_STOPPED = "stopped_s"
_STORED = "stored late "


class Superseded(EgressError):
    """A newer recording is stored where this one was to go. No repetition and no other storage cures that."""


class LateUploads:
    """Of one egress. `stopped_s`: when it wrote for the last time, in unix seconds."""

    def __init__(
        self, stopped_s: float, own_s: Callable[[str], float], keep: Callable[[str, float], None]
    ) -> None:
        """`own_s` tells when an earlier recovery stored a path (0: never); `keep` remembers it, blocking."""
        self._stopped_s = stopped_s
        self._own_s = own_s
        self._keep = keep

    @classmethod
    def of(cls, journal: Journal) -> "LateUploads":
        """Blocking. The first recovery notes when the recording stopped, as its own work changes files."""
        stopped_s = journal.facts.get(_STOPPED)
        if stopped_s is None:
            stopped_s = _last_change_s(journal.folder)
            with contextlib.suppress(EgressError):  # a full disk, for which storing makes room
                journal.note(_STOPPED, stopped_s)
        return cls(
            float(stopped_s),
            lambda path: float(journal.facts.get(_STORED + path, 0.0)),
            lambda path, at_s: journal.note(_STORED + path, at_s),
        )

    async def refuse_newer(self, storage: Storage, path: str) -> None:
        """Raises Superseded for an object that is newer than the recording and not its own. An identity that
        may write and not look cannot tell."""
        changed_s = await storage.changed_s(path)
        if changed_s is None or changed_s <= self._stopped_s + MARGIN_S or changed_s == self._own_s(path):
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed_s))
        raise Superseded(
            Code.ALREADY_EXISTS,
            f"{path!r} holds another recording, stored {since}, after this one had ended: that one is kept",
            fault=Fault.SERVICE,
            phase=Phase.STORAGE_WRITE,
        )

    async def stored(self, storage: Storage, path: str) -> None:
        """Should this recovery be cut off, the next one finds an object of its own there."""
        if (changed_s := await storage.changed_s(path)) is not None:
            with contextlib.suppress(EgressError):
                await asyncio.to_thread(self._keep, path, changed_s)


def _last_change_s(folder: Path) -> float:
    """A folder changes when a file in it has been stored, and goes."""
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")) if path.name != LOCK)
