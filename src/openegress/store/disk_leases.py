"""Makes leases of paths by file locks, for services that share a disk but no Redis.

Two services, in containers or on machines with a common mount, may have the same output root. Each root has
one lock file, in which each path being written locks one byte (open file description locks, fcntl(2)), and a
share of it is a lock for reading. The kernel releases the locks when the process ends for any reason.
"""

import asyncio
import fcntl
import hashlib
import os
import struct
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

import structlog

from openegress.config.destination import LOCKS
from openegress.request.places import local_path
from openegress.store.leases import Leases, Lost, divided

_log = structlog.get_logger(__name__)

_FLOCK = struct.Struct("@hhqqi4x")
"""The layout of struct flock: type, whence, start, length, pid (0 for locks of an open file description)."""
_OFFSETS = 2**62


class DiskLeases:
    """Combines the leases `others` with locks on the disk."""

    def __init__(self, others: Leases, roots: Sequence[Path], data: Path, *, is_guest: bool = False) -> None:
        """Paths below one of `roots` are locked there, so that services need nothing else in common. Paths of
        other storages are locked in `data`. `is_guest`: only existing lock files are used, and none is
        created."""
        self._others = others
        self._data = data
        self._flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if is_guest else os.O_CREAT)
        self._is_guest = is_guest
        # Deepest first, as a path belongs to the nearest root.
        self._roots = sorted((root.absolute() for root in roots), key=lambda root: -len(root.parts))
        self._files: dict[Path, int] = {}
        self._locked: set[str] = set()
        self._unable: set[Path] = set()

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        await self._others.hold(worker_id, egress_ids)
        for lease in set(egress_ids) - self._locked:
            await asyncio.to_thread(self._lock, lease)

    async def release(self, egress_ids: Collection[str]) -> None:
        for lease in self._locked & set(egress_ids):
            await asyncio.to_thread(self._unlock, lease)
        await self._others.release(egress_ids)

    async def take(self, worker_id: str, egress_id: str) -> bool:
        if not await self._others.take(worker_id, egress_id):
            return False
        if await asyncio.to_thread(self._lock, egress_id):
            return True
        await self._others.release([egress_id])
        return False

    async def lost(self) -> Sequence[Lost]:
        return await self._others.lost()

    async def held(self) -> Collection[str]:
        return await self._others.held()

    async def close(self) -> None:
        """Closes the lock files, which releases all locks."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        self._locked.clear()
        await self._others.close()

    def _lock(self, lease: str) -> bool:
        """Locks a lease. Returns False if another service holds the lock. Returns True, with one warning in
        the log, if the disk has no locks or is read-only: other services cannot be noticed then."""
        whole, sharer = divided(lease)
        root, offset = self._place(whole)
        if not self._locked.isdisjoint((lease, whole)):
            return True
        try:
            _ask(self._file(root), fcntl.F_RDLCK if sharer else fcntl.F_WRLCK, offset)
        except BlockingIOError:
            return False
        except OSError as error:
            if root not in self._unable and not (self._is_guest and isinstance(error, FileNotFoundError)):
                self._unable.add(root)
                _log.warning(
                    "no locks in this folder: another service that writes there is not noticed",
                    folder=str(root),
                    error=error.strerror or str(error),
                )
            return True
        self._locked.add(lease)
        return True

    def _unlock(self, lease: str) -> None:
        root, offset = self._place(divided(lease)[0])
        self._locked.discard(lease)
        if root in self._files:
            _ask(self._files[root], fcntl.F_UNLCK, offset)

    def _place(self, lease: str) -> tuple[Path, int]:
        """The folder of the lock file, and the byte for a path. The byte depends on the path below the root,
        so it is the same wherever the root is mounted."""
        folder, name = self._data, lease
        if (path := local_path(lease)) is not None:
            for root in self._roots:
                if PurePath(path).is_relative_to(root):
                    folder, name = root, str(PurePath(path).relative_to(root))
                    break
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return folder, int.from_bytes(digest[:8]) % _OFFSETS

    def _file(self, root: Path) -> int:
        """The descriptor of a root's lock file. Raises OSError."""
        fd = self._files.get(root)
        if fd is None:
            if not self._is_guest:
                root.mkdir(parents=True, exist_ok=True)
            # The file is writable for all users, as services may run as different ones.
            fd = self._files[root] = os.open(root / LOCKS, self._flags, 0o666)
        return fd


def _ask(fd: int, kind: int, offset: int) -> None:
    """Sets or removes a lock. Raises BlockingIOError if another process holds it, else OSError."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
    except PermissionError as error:  # EACCES stands for EAGAIN on some file systems, as fcntl(2) says
        raise BlockingIOError(error.errno, error.strerror) from None
