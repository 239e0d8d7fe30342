"""Storages for finished files, behind one protocol: local disk, S3, GCS, Azure Blob, AliOSS."""

from pathlib import Path
from typing import Protocol

from openegress.core.storages import Backend


class Storage(Protocol):
    """One bucket, container or folder. Paths are relative to it, with "/" between parts.

    Every method raises EgressError, whose text holds no secret. Its fault is CALLER for a mistake in the
    request (no such bucket, key refused), DESTINATION for an error that may pass (time-out, 5xx), and SERVICE
    for a local file that cannot be read.
    """

    async def check(self, path: str) -> None:
        """Writes and deletes a small object beside `path`."""

    async def put(self, local: Path, path: str, content_type: str) -> None:
        """Stores the file `local`, which stays where it is. Large files go in parts, in bounded memory."""

    async def size(self, path: str) -> int | None:
        """The size of the stored object in bytes; None if this identity may write but not look (HEAD).

        Raises EgressError with code NOT_FOUND when there is no such object."""

    async def changed_s(self, path: str) -> float | None:
        """The time at which the object was stored, in unix seconds by the storage's clock; None if there is
        no such object, or this identity may not look."""

    async def read(self, path: str, offset: int, size: int) -> bytes:
        """Reads `size` bytes of the stored object from `offset` on, or fewer at its end.

        Raises EgressError with code NOT_FOUND if there is no such object."""

    async def presign(self, path: str, expires_s: int) -> str:
        """A URL that reads the object without credentials for `expires_s` seconds."""

    def location(self, path: str) -> str:
        """The URL or path of the object, in the form that clients of the Egress API expect."""

    async def close(self) -> None:
        """Closes connections. Idempotent."""


async def open_storage(backend: Backend) -> Storage:
    """Opens the Storage for a backend of the plan. Raises EgressError if its fields contradict each other."""
    from openegress.storage.open import connect

    return await connect(backend)
