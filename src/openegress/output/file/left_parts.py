"""Stores the parts of a file that were recorded before another process continued it."""

import time
from collections.abc import Sequence
from pathlib import Path

from openegress.core import plan
from openegress.core.errors import EgressError
from openegress.core.events import BackupUsed, FileUpdate
from openegress.core.marker import within
from openegress.media.duration import holds_media
from openegress.output import Emit, Opening
from openegress.output.file.recover import local_path, store_left_file
from openegress.output.manifest import FileRecord, Records, extra_files_stored
from openegress.output.spool_file import folder
from openegress.storage.uploader import Uploader


class LeftParts:
    """The earlier parts of a file; there may be none. Call it in the event loop."""

    def __init__(
        self,
        output: plan.FileOutput,
        index: int,
        told: Sequence[FileUpdate],
        *,
        emit: Emit,
        uploader: Uploader,
    ) -> None:
        """`told`: the last update of each part, in order."""
        self._plan = output
        self._index = index
        self._told = list(told)
        self._emit = emit
        self._uploader = uploader
        self._opening: Opening | None = None
        self._folder = Path()
        self._stored: list[Records] = []
        self.size_bytes = 0
        """Total size of all parts, in the storage and on this disk."""

    @property
    def next_part(self) -> int:
        """The number of the next part, from 0."""
        return self._told[-1].part + 1 if self._told else 0

    @property
    def waiting(self) -> int:
        """Number of parts that are not stored."""
        return len(self._told) - len(self._stored)

    @property
    def records(self) -> Records:
        return Records(files=tuple(file for each in self._stored for file in each.files))

    def open(self, opening: Opening) -> None:
        """Finds the parts. If nothing has reached the last one, it is started again. Blocking."""
        self._opening = opening
        self._folder = folder(opening.spool, f"file-{self._index}")
        while self._told and not self._is_kept(self._told[-1]):
            self._told.pop()
        self.size_bytes = sum(self._size(each) for each in self._told)

    async def store(self) -> None:
        """Stores and reports each part. Raises the first EgressError after trying all of them."""
        first: EgressError | None = None
        for told in self._told:
            try:
                self._stored.append(await self._store(told))
            except EgressError as error:
                first = first or error
        if first is not None:
            raise first

    async def _store(self, told: FileUpdate) -> Records:
        assert self._opening is not None
        later = [each.begin_ns for each in self._told if each.part > told.part]
        end_ns = min(later, default=self._opening.goes_on_at_ns)
        markers = within(self._opening.markers, told.begin_ns, end_ns)
        if told.location and not markers:
            return Records(files=(FileRecord(told.filename, told.location),))
        kept = await store_left_file(
            self._folder,
            self._plan,
            told,
            markers,
            self._folder.parent.name,
            self._uploader,
            self._opening.late,
        )
        if kept is None:
            return Records()
        if kept.backup_used:
            self._emit(BackupUsed(self._index))
        self._emit(kept.update)
        for event in extra_files_stored(kept.records.files[1:], time.time_ns()):
            self._emit(event)
        return kept.records

    def _is_kept(self, told: FileUpdate) -> bool:
        """Whether the part was stored, or has media on this disk."""
        local = local_path(self._folder, self._plan, told)
        return not local.exists() or holds_media(local)

    def _size(self, told: FileUpdate) -> int:
        local = local_path(self._folder, self._plan, told)
        return local.stat().st_size if local.exists() else told.size_bytes
