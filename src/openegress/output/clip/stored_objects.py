"""Reads objects that an egress has stored, in order to cut a clip from them."""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from openegress.core.clip_plan import ClipPlan
from openegress.core.errors import Code, EgressError
from openegress.core.span import Span
from openegress.media.clip.source import ClipPart
from openegress.storage import Storage, open_storage
from openegress.storage.uploader import UploadTarget, join

T = TypeVar("T")


class StoredBytes:
    """An object in a storage. It is read from a thread other than that of the storage's loop."""

    def __init__(self, storage: Storage, path: str, size_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._storage = storage
        self._path = path
        self._size_bytes = size_bytes
        self._loop = loop

    def size(self) -> int:
        return self._size_bytes

    def read_at(self, offset: int, size: int) -> bytes:
        reading = self._storage.read(self._path, offset, size)
        return asyncio.run_coroutine_threadsafe(reading, self._loop).result()


class StoredObjects:
    """The objects of one StoragePlan. Call the methods outside the event loop, which must be running."""

    def __init__(self, plan: ClipPlan, loop: asyncio.AbstractEventLoop) -> None:
        storage = plan.recorded.storage
        self._loop = loop
        self._primary = UploadTarget(storage.backend, storage.prefix, False, open_storage, is_backup=False)
        self._backup = (
            UploadTarget(storage.backup, storage.backup_prefix, False, open_storage, is_backup=True)
            if storage.backup is not None
            else None
        )

    def bytes_of(self, path: str, *, size_bytes: int = 0) -> StoredBytes:
        """Opens an object in the storage, or else in its backup. `size_bytes` is the expected size; 0: any
        size. Raises EgressError."""
        targets = [each for each in (self._primary, self._backup) if each is not None]
        first: EgressError | None = None
        for target in targets:
            try:
                return self._bytes_in(target, path, size_bytes)
            except EgressError as error:
                first = first or error
        assert first is not None
        raise first

    def _bytes_in(self, target: UploadTarget, path: str, size_bytes: int) -> StoredBytes:
        storage = self._run(target.storage())
        whole = join(target.prefix, path)
        there_bytes = self._run(storage.size(whole))
        if there_bytes is None:
            raise EgressError(Code.PERMISSION_DENIED, f'"{path}": this service may only write to its storage')
        if size_bytes and there_bytes != size_bytes:
            why = f'"{path}" has {there_bytes} bytes and was stored with {size_bytes}: it has been replaced'
            raise EgressError(Code.FAILED_PRECONDITION, why)
        return StoredBytes(storage, whole, there_bytes, self._loop)

    def exists(self, path: str) -> bool:
        """Whether the object exists; False if this service may only write. Raises EgressError."""
        try:
            return (
                self._run(self._run(self._primary.storage()).size(join(self._primary.prefix, path)))
                is not None
            )
        except EgressError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise

    async def close(self) -> None:
        await self._primary.close()
        if self._backup is not None:
            await self._backup.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


@dataclass(slots=True)
class SpanSource:
    """An opened span of a recording; times of `parts` are those of the recording."""

    parts: tuple[ClipPart, ...]
    """The consecutive files of the span."""
    span: Span
    source_bytes: int
    """The size of the source, which the clip cannot exceed."""
    files: list[int] = field(default_factory=list)
    """Descriptors to close."""

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)
