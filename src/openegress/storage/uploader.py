"""Uploads finished files from the spool to the storage of the plan. Retries while the storage is down, then
uploads to the backup. A local file is deleted only after a storage has confirmed its size."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import Backend, StoragePlan
from openegress.core.tasks import cancelled
from openegress.storage import Storage, backed_up, open_storage
from openegress.storage.failures import StorageError
from openegress.storage.late import LateUploads
from openegress.storage.spool import size_of

PRESIGNED_FOR_S = 7 * 24 * 3600
"""Lifetime of presigned URLs: the longest that S3 allows, as in upstream."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The place where a file is stored."""

    path: str
    """Path in the storage, with the plan's prefix."""
    location: str
    """The value of EgressInfo's `location`: a presigned URL if the plan asks for one."""
    backup_used: bool
    size_bytes: int
    """The size of the file; 0: unknown, in a result of locate()."""
    presign_error: str = ""
    """The reason why `location` is not presigned although the plan asks for it; "" otherwise."""


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
    """The end of all attempts to store one object in one storage."""

    content_type: str
    elapsed_s: float
    """The time of all attempts, with the pauses between them."""
    on_backup: bool
    stored: Stored | None
    """The stored file; None: this storage was given up."""
    status: int = 0
    """The HTTP status of the last failure; 0: there was no answer."""
    custom_endpoint: bool = False


OnRetry = Callable[[UploadRetry], None]
OnOutcome = Callable[[Outcome], None]
Connect = Callable[[Backend], Awaitable[Storage]]


def join(prefix: str, path: str) -> str:
    """`path` below `prefix`, which is the one of the server's configuration."""
    if not prefix:
        return path
    return f"{prefix.rstrip('/')}/{path.lstrip('/')}"


class UploadTarget:
    """One backend, opened when it is first needed."""

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
    """A file to be stored."""

    local: Path
    path: str
    """The path without the prefix of the plan."""
    content_type: str
    late: LateUploads | None


@dataclass(slots=True)
class Failover:
    """Whether the storage of a StoragePlan was given up. The uploaders of one egress share it, so that they
    do not each wait for hours before they turn to the backup."""

    late: LateUploads | None = None
    """Set for a recording that has already ended."""

    gave_up: EgressError | None = None
    """The reason why everything goes to the backup from now on; None: the storage is still in use."""


class Uploader:
    """Uploads the files of one output; calls may overlap. Once the storage was given up for one file, later
    files go to the backup at once."""

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
        failover: Failover | None = None,
    ) -> None:
        """`failover` is shared with other uploaders of the same plan."""
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
        self._failover = failover or Failover()
        self._stops_retrying = asyncio.Event()

    def stop_retrying(self) -> None:
        """Stops retries, because the process is about to end. Files that were not uploaded stay in the spool.
        Call it in the event loop."""
        self._stops_retrying.set()

    async def check(self, path: str) -> None:
        """Opens the storage, and writes and deletes a small object beside `path`, unless the plan turns that
        off.

        Raises EgressError with phase STORAGE_CHECK. If the storage is merely unreachable, a backup that
        works is enough.
        """
        primary = await self._primary.storage()
        if not self.plan.check:
            return
        try:
            await primary.check(join(self._primary.prefix, path))
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
        """Stores `local` under the plan's prefix + `path` and returns when the storage has confirmed it.

        `delete_local` removes the local file after that. `late` is set for files from before a restart of
        the recording. Raises EgressError (phase STORAGE_WRITE) when neither storage nor backup accepted the
        file, which then stays where it is.
        """
        stored = await self._put(_Object(local, path, content_type, late or self._failover.late))
        if delete_local:
            await asyncio.to_thread(_remove, local, on_backup=stored.backup_used)
        return stored

    async def locate(self, path: str, *, on_backup: bool) -> Stored:
        """The location of the object that was stored under `path` before (storage.backed_up knows in which
        storage). The storage itself is not asked: it may be down, or let us only write. Raises EgressError if
        it cannot be opened."""
        target = self._backup if on_backup and self._backup is not None else self._primary
        return await self._signed(target, join(target.prefix, path))

    async def close(self) -> None:
        await self._primary.close()
        if self._backup is not None:
            await self._backup.close()

    async def _put(self, what: _Object) -> Stored:
        if self._backup is None:
            return await self._put_to(self._primary, what)
        if self._failover.gave_up is None:
            try:
                return await self._put_to(self._primary, what)
            except EgressError as error:
                if error.fault is Fault.SERVICE:
                    raise  # the file cannot be read, or is superseded: no other storage helps
                self._failover.gave_up = error
        first = self._failover.gave_up
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

        def report(stored: Stored | None, status: int = 0) -> None:
            if self._on_outcome is not None:
                elapsed_s, endpoint = self._clock() - began_s, getattr(target.backend, "endpoint", "")
                self._on_outcome(
                    Outcome(what.content_type, elapsed_s, target.is_backup, stored, status, bool(endpoint))
                )

        try:
            stored = await self._persist(target, what)
        except EgressError as error:
            report(None, error.status if isinstance(error, StorageError) else 0)
            raise
        report(stored)
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
                if error.fault is not Fault.DESTINATION or self._stops_retrying.is_set():
                    raise
                if self._clock() + delay_s > deadline:
                    raise
                if self._on_retry is not None:
                    self._on_retry(UploadRetry(path, attempt, delay_s, error, target.is_backup))
            await self._pause(delay_s)

    async def _pause(self, delay_s: float) -> None:
        """Waits until the next attempt is due, or stop_retrying() is called."""
        waiting = [
            asyncio.ensure_future(self._sleep(delay_s)),
            asyncio.ensure_future(self._stops_retrying.wait()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*waiting)

    async def _attempt(self, target: UploadTarget, what: _Object, path: str) -> Stored:
        """Uploads `what` once to `path`, which is the full path."""
        storage = await target.storage()
        size_bytes, late = await size_of(what.local), what.late
        if late is not None:
            await late.begin(storage, path, size_bytes)
        await storage.put(what.local, path, what.content_type)
        if late is not None:
            await late.stored(storage, path)
        there_bytes = await storage.size(path)
        # None means a write-only identity. Then the storage's answer to the upload has to suffice.
        if there_bytes is not None and there_bytes != size_bytes:
            raise EgressError(
                Code.DATALOSS,
                f"the storage holds {there_bytes} bytes of {path!r} after {size_bytes} were sent",
                fault=Fault.DESTINATION,
                phase=Phase.STORAGE_WRITE,
            )
        return replace(await self._signed(target, path), size_bytes=size_bytes)

    async def _signed(self, target: UploadTarget, path: str) -> Stored:
        """The object at `path`, with the location that the plan asks for."""
        storage = await target.storage()
        stored = Stored(path, storage.location(path), target.is_backup, 0)
        if not target.presign:
            return stored
        try:
            return replace(stored, location=await storage.presign(path, PRESIGNED_FOR_S))
        except EgressError as error:
            # The recording is stored; a missing presigned URL is no reason to send it again.
            return replace(stored, presign_error=error.message)


def _remove(local: Path, *, on_backup: bool) -> None:
    """Removes a stored file. The note comes first, so that at any instant there is the file or the note."""
    try:
        backed_up.note(local, on_backup=on_backup)
    except OSError:
        # On a full disk, removing the file makes room for the note and for what is still being recorded.
        local.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            backed_up.note(local, on_backup=on_backup)
        return
    local.unlink(missing_ok=True)
