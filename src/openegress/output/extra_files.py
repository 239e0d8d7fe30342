"""Stores the files that lie beside a recording. A failure of one does not affect the others."""

import time
from pathlib import Path

from openegress.core.errors import EgressError
from openegress.core.events import BackupUsed
from openegress.output import Emit
from openegress.output.manifest import FileRecord, Records, extra_files_stored
from openegress.storage.uploader import Uploader


class ExtraFileStore:
    """The extra files of one recording. The caller closes the uploader."""

    def __init__(self, uploader: Uploader) -> None:
        self._uploader = uploader
        self._files: list[FileRecord] = []
        self.errors: list[EgressError] = []
        """The reasons why files are missing, including those that could not be made."""
        self.backup_used = False

    @property
    def records(self) -> Records:
        return Records(files=tuple(self._files))

    @property
    def failure(self) -> EgressError | None:
        """The first of the errors; None: there is none."""
        return self.errors[0] if self.errors else None

    async def put(self, local: Path, path: str, content_type: str) -> None:
        """Stores `local` and removes it. A file that no storage takes stays, and adds an error."""
        try:
            stored = await self._uploader.put(local, path, content_type, delete_local=True)
        except EgressError as error:
            self.errors.append(error)
            return
        self.backup_used = self.backup_used or stored.backup_used
        self._files.append(FileRecord(path, stored.location, stored.presign_error))

    def tell(self, index: int, emit: Emit) -> None:
        """Emits the events of the files that were stored beside this output."""
        if self.backup_used:
            emit(BackupUsed(index))
        for event in extra_files_stored(self._files, time.time_ns()):
            emit(event)
