"""Where finished files go: local disk, S3, GCS, Azure Blob, AliOSS, behind one small seam."""

from pathlib import Path
from typing import Protocol

from openegress.core.plan import Backend


class Storage(Protocol):
    """One bucket, container or folder. Paths are relative to it, with "/" between parts.

    Every method raises EgressError: fault CALLER for what the request got wrong (no such bucket, key
    refused), DESTINATION for what may pass (time-out, 5xx), with the storage's own words and no secret.
    """

    async def check(self, path: str) -> None:
        """Writes and deletes a small object beside `path`."""

    async def put(self, local: Path, path: str, content_type: str) -> None:
        """Stores a whole file, in parts when it is large, in bounded memory. `local` stays."""

    async def size(self, path: str) -> int | None:
        """Bytes of the stored object. None: this identity may write here but not look.

        Raises EgressError with code NOT_FOUND when there is no such object."""

    async def changed_s(self, path: str) -> float | None:
        """When the object was stored, in unix seconds by the storage's clock. None: there is none, or this
        identity may not look."""

    async def read(self, path: str, offset: int, size: int) -> bytes:
        """Part of the stored object; fewer bytes than `size` only at its end.

        Raises EgressError with code NOT_FOUND when there is no such object."""

    async def presign(self, path: str, expires_s: int) -> str:
        """A URL that reads the object without credentials."""

    def location(self, path: str) -> str:
        """Where the object is, in the form clients of the Egress API expect."""

    async def close(self) -> None: ...


async def open_storage(backend: Backend) -> Storage:
    """The Storage for a backend of the plan."""
    from openegress.storage.open import connect

    return await connect(backend)
