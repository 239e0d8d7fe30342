"""Takes finished files from the spool to the storage of the plan: again and again while it is down, then
to the backup. A local file goes only when the storage confirmed its size."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.plan import Backend, StoragePlan
from openegress.storage import Storage, backed_up, open_storage
from openegress.storage.failures import StorageError
from openegress.storage.late import LateUploads
from openegress.storage.spool import size_of

PRESIGNED_FOR_S = 7 * 24 * 3600
"""The longest S3 allows, and what upstream gives."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file went."""

    path: str
    """In the storage, the plan's prefix included."""
    location: str
    """What EgressInfo.location says: presigned when the plan asks for it."""
    backup_used: bool
    size_bytes: int
    """0: not known, of what was only located."""
    presign_error: str = ""
    """Why `location` is the plain one although the plan asked for a presigned one."""


@dataclass(frozen=True, slots=True)
class UploadRetry:
    """A failed attempt that will be repeated."""

    path: str
    attempt: int
    delay_s: float
    error: EgressError
    on_backup: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended with one object on one storage."""

    content_type: str
    elapsed_s: float
    """Attempts and the pauses between them."""
    on_backup: bool
    stored: Stored | None
    """None: it was given up there."""
    status: int = 0
    """What HTTP answered then; 0: nothing did."""
    custom_endpoint: bool = False


OnRetry = Callable[[UploadRetry], None]
OnOutcome = Callable[[Outcome], None]
Connect = Callable[[Backend], Awaitable[Storage]]


def join(prefix: str, path: str) -> str:
    """A storage path below the prefix of the server's configuration."""
    if not prefix:
        return path
    return f"{prefix.rstrip('/')}/{path.lstrip('/')}"


class UploadTarget:
    """One backend, opened when first needed."""

    def __init__(
        self, backend: Backend, prefix: str, presign: bool, connect: Connect, is_backup: bool
    ) -> None:
        self.backend = backend
        self.prefix = prefix
        self.presign = presign
        self.is_backup = is_backup
        self._connect = connect
        self._storage: Storage | None = None
        self._lock = asyncio.Lock()

    async def storage(self) -> Storage:
        async with self._lock:
            if self._storage is None:
                self._storage = await self._connect(self.backend)
            return self._storage

    async def close(self) -> None:
        if self._storage is not None:
            await self._storage.close()
            self._storage = None


@dataclass(frozen=True, slots=True)
class _Object:
    """What is to be stored."""

    local: Path
    path: str
    """Without the prefix of the plan."""
    content_type: str
    late: LateUploads | None


@dataclass(slots=True)
class Failover:
    """What is known of the storage of a StoragePlan. The uploaders of one egress share it: each by itself
    would only spend the same hours waiting."""

    late: LateUploads | None = None
    """Of a recording that has ended before."""

    gave_up: EgressError | None = None
    """Why everything goes to the backup from now on; None: it does not."""


class Uploader:
    """Of one output; calls may overlap. Once the storage was given up for one file, later files go to the
    backup at once."""

    def __init__(
        self,
        plan: StoragePlan,
        *,
        on_retry: OnRetry | None = None,
        on_outcome: OnOutcome | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff | None = None,
        connect: Connect = open_storage,
        standing: Failover | None = None,
    ) -> None:
        """`standing` is shared with other uploaders of the same plan."""
        self.plan = plan
        self._on_retry = on_retry
        self._on_outcome = on_outcome
        self._clock = clock
        self._sleep = sleep
        self._backoff = backoff or Backoff()
        self._primary = UploadTarget(plan.backend, plan.prefix, plan.presign, connect, is_backup=False)
        self._backup = (
            UploadTarget(plan.backup, plan.backup_prefix, plan.backup_presign, connect, is_backup=True)
            if plan.backup
            else None
        )
        self._standing = standing or Failover()
        self._hurried = asyncio.Event()

    def stop_retrying(self) -> None:
        """The process is about to end: what fails from now on is not tried again, and stays in the spool.
        Called in the event loop."""
        self._hurried.set()

    async def check(self, path: str) -> None:
        """Writes and deletes a small object beside `path`. Does nothing when the plan says so.

        Raises EgressError with phase STORAGE_CHECK. A storage that is merely away is no reason to refuse a
        recording when there is a backup that answers.
        """
        if not self.plan.check:
            return
        try:
            await (await self._primary.storage()).check(join(self._primary.prefix, path))
        except EgressError as error:
            if error.fault is not Fault.DESTINATION or self._backup is None:
                raise
            await (await self._backup.storage()).check(join(self._backup.prefix, path))

    async def put(
        self,
        local: Path,
        path: str,
        content_type: str,
        *,
        delete_local: bool = False,
        late: LateUploads | None = None,
    ) -> Stored:
        """Stores `local` under the plan's prefix + `path` and returns when the storage confirmed it.

        `delete_local` removes the file then, and only then. `late`: of what was made before this recording
        was gone on with. Raises EgressError (phase STORAGE_WRITE) when neither storage nor backup took it;
        the file stays where it is.
        """
        stored = await self._put(_Object(local, path, content_type, late or self._standing.late))
        if delete_local:
            await asyncio.to_thread(_remove, local, on_backup=stored.backup_used)
        return stored

    async def locate(self, path: str, *, on_backup: bool) -> Stored:
        """Where that is which was stored under `path` before (storage.backed_up knows in which storage). No
        storage is asked: it may be away, or let us only write. Raises EgressError when it cannot be opened.
        """
        target = self._backup if on_backup and self._backup is not None else self._primary
        return await self._signed(target, join(target.prefix, path))

    async def close(self) -> None:
        await self._primary.close()
        if self._backup is not None:
            await self._backup.close()

    async def _put(self, what: _Object) -> Stored:
        if self._backup is None:
            return await self._put_to(self._primary, what)
        if self._standing.gave_up is None:
            try:
                return await self._put_to(self._primary, what)
            except EgressError as error:
                if error.fault is Fault.SERVICE:
                    raise  # the file itself cannot be read, or is too late: no storage helps
                self._standing.gave_up = error
        first = self._standing.gave_up
        try:
            return await self._put_to(self._backup, what)
        except EgressError as error:
            if error.fault is Fault.SERVICE:
                raise
            raise EgressError(
                first.code,
                f"{first.message}; backup storage: {error.message}",
                fault=first.fault,
                phase=Phase.STORAGE_WRITE,
            ) from error

    async def _put_to(self, target: UploadTarget, what: _Object) -> Stored:
        began_s = self._clock()

        def tell(stored: Stored | None, status: int = 0) -> None:
            if self._on_outcome is not None:
                elapsed_s, endpoint = self._clock() - began_s, getattr(target.backend, "endpoint", "")
                self._on_outcome(
                    Outcome(what.content_type, elapsed_s, target.is_backup, stored, status, bool(endpoint))
                )

        try:
            stored = await self._persist(target, what)
        except EgressError as error:
            tell(None, error.status if isinstance(error, StorageError) else 0)
            raise
        tell(stored)
        return stored

    async def _persist(self, target: UploadTarget, what: _Object) -> Stored:
        deadline = self._clock() + self.plan.retry_for_s
        path = join(target.prefix, what.path)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(target, what, path)
            except EgressError as error:
                error.phase = Phase.STORAGE_WRITE
                delay_s = self._backoff.delay_s(attempt)
                if error.fault is not Fault.DESTINATION or self._hurried.is_set():
                    raise
                if self._clock() + delay_s > deadline:
                    raise
                if self._on_retry is not None:
                    self._on_retry(UploadRetry(path, attempt, delay_s, error, target.is_backup))
            await self._pause(delay_s)

    async def _pause(self, delay_s: float) -> None:
        """Until the next attempt is due, or must not wait."""
        waiting = [asyncio.ensure_future(self._sleep(delay_s)), asyncio.ensure_future(self._hurried.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _attempt(self, target: UploadTarget, what: _Object, path: str) -> Stored:
        """`path`: there."""
        storage = await target.storage()
        size_bytes, late = await size_of(what.local), what.late
        if late is not None:
            await late.begin(storage, path, size_bytes)
        await storage.put(what.local, path, what.content_type)
        if late is not None:
            await late.stored(storage, path)
        there_bytes = await storage.size(path)
        # None: a write-only identity. The storage then vouches with its answer to the signed upload.
        if there_bytes is not None and there_bytes != size_bytes:
            raise EgressError(
                Code.DATALOSS,
                f"the storage holds {there_bytes} bytes of {path!r} after {size_bytes} were sent",
                fault=Fault.DESTINATION,
                phase=Phase.STORAGE_WRITE,
            )
        return replace(await self._signed(target, path), size_bytes=size_bytes)

    async def _signed(self, target: UploadTarget, path: str) -> Stored:
        """What is stored there, with the location that the plan asks for."""
        storage = await target.storage()
        stored = Stored(path, storage.location(path), target.is_backup, 0)
        if not target.presign:
            return stored
        try:
            return replace(stored, location=await storage.presign(path, PRESIGNED_FOR_S))
        except EgressError as error:
            # The recording is stored; that it has no signed URL is no reason to send it again.
            return replace(stored, presign_error=error.message)


def _remove(local: Path, *, on_backup: bool) -> None:
    """What was stored. Where it is gets noted first: no instant is without the file or the note."""
    try:
        backed_up.note(local, on_backup=on_backup)
    except OSError:
        # On a full disk the file makes room for the note, and for what is yet to be recorded.
        local.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            backed_up.note(local, on_backup=on_backup)
        return
    local.unlink(missing_ok=True)
