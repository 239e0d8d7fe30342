"""Records to one file, which is playable at any instant while it grows, and plain and complete at the end."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from openegress.core import plan
from openegress.core.codecs import Container
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import FileUpdate, Noticed
from openegress.core.marker import Marker
from openegress.media import Packet
from openegress.media.fragment_end import FragmentsEnd, end_of
from openegress.output import Emit, Opening, disk_thread
from openegress.output.content_types import container_for, content_type
from openegress.output.disk_thread import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S
from openegress.output.failure import BackupReport, FailureReport
from openegress.output.file.chapters_file import store_chapters
from openegress.output.file.finalise import finalise
from openegress.output.file.job import FileJob
from openegress.output.manifest import FileRecord, Records, extra_files_stored
from openegress.output.spool_file import disk_error, folder
from openegress.output.writer import QueuedWriter
from openegress.request import naming
from openegress.request.output_names import file_name
from openegress.request.outputs import renamed
from openegress.request.part_names import spool_name, stored_name
from openegress.storage.uploader import Uploader

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file in parts."""

    number: int
    """Number of the part, from 0."""
    begin_ns: int
    """Start of the part on the recording's timeline."""


class FileRecorder:
    """Records one file: spooled on the local disk, finalised, then stored."""

    def __init__(
        self,
        output: plan.FileOutput,
        index: int,
        *,
        emit: Emit,
        uploader: Uploader,
        part: FilePart | None = None,
    ) -> None:
        """`part`: which part of a file in parts this is; the uploader is then shared with the other parts."""
        self._plan = output
        self._index = index
        self._part = part
        self._emit = emit
        self._uploader = uploader
        self._failures = FailureReport(index, emit)
        self._backup = BackupReport(index, emit)
        self._job: FileJob | None = None
        self._writer: QueuedWriter | None = None
        self._opening: Opening | None = None
        self._container = Container.MP4
        self._path = Path()
        self._filename = ""
        self._records = Records()
        self._markers: tuple[Marker, ...] = ()

    def open(self, opening: Opening) -> None:
        """Opens the file. Raises EgressError when the disk refuses, or the container does not take the
        codecs."""
        self._opening = opening
        self._markers = tuple(opening.markers)
        self._container = self._plan.container or container_for(opening.formats)
        if self._plan.container is None and not opening.goes_on_at_ns:
            for text in renamed(self._plan.filepath, self._container):
                self._emit(Noticed(text))
        whole = naming.with_extension(file_name(self._plan, opening.name_values), f".{self._container.value}")
        self._filename = stored_name(self._plan, self._number, whole)
        local = spool_name(self._plan, self._number, self._container)
        self._path = folder(opening.spool, f"file-{self._index}") / local
        behind = left_in(self._path, self._container) if opening.goes_on_at_ns else None
        self._job = FileJob(self._path, self._container, opening, self._update, behind)
        self._writer = QueuedWriter(f"file output {self._filename}", self._job, self._failures.report)
        self._writer.start(OPEN_TIMEOUT_S)
        self._update()

    def write(self, packet: Packet) -> None:
        if self._writer is not None:
            self._writer.put(packet)

    def mark(self, marker: Marker) -> None:
        """Adds a marker, whose time is the file's own."""
        self._markers = (*self._markers, marker)

    async def finish(self, ended_at_ns: int) -> None:
        """Closes the file, moves its index to the front, and stores it. After a failure, what was recorded
        until then is stored before the failure is raised. `ended_at_ns` 0: the time at which its media
        ends."""
        if self._writer is None or self._opening is None or self._job is None:
            return
        try:
            await self._writer.finish(CLOSE_TIMEOUT_S)
        except EgressError as error:
            self._failures.report(error)
        if self._writer.is_over:
            await self._store(ended_at_ns or self._opening.started_at_ns + self._job.media_end_ns)
        if self._part is None:
            await self._uploader.close()
        self._failures.raise_if_any()

    @property
    def _number(self) -> int:
        return self._part.number if self._part is not None else 0

    def size_bytes(self) -> int:
        return self._job.size_bytes if self._job else 0

    def waiting_uploads(self) -> int:
        return 0

    async def written(self) -> None:
        """Returns when every packet so far has reached the muxer."""
        if self._writer is not None:
            await self._writer.written()

    def records(self) -> Records:
        """Returns what the manifest lists; call it after finish()."""
        return self._records

    def is_settled(self) -> bool:
        """Whether nothing needs to be kept in the spool. A file without a packet need not be kept. A file
        that a stuck disk may still be writing must be, and so must chapters that no storage took."""
        if self._job is None or self._writer is None:
            return True
        if self._records.files:
            return len(self._records.files) > bool(self._markers)
        return self._writer.is_over and self._job.is_empty

    async def _store(self, ended_at_ns: int) -> None:
        assert self._job is not None and self._opening is not None
        if self._job.is_empty and isinstance(self._plan, plan.TracksFile):
            _log.warning("nobody published anything: there is no %s", self._filename)
            return
        if self._job.is_empty:
            self._failures.report(
                internal("no frame reached the file: nothing was recorded", Phase.RECORDING)
            )
            return
        try:
            size_bytes = await self._finalise()
        except EgressError as error:
            self._failures.report(error)
            return
        self._update(ended_at_ns=ended_at_ns, size_bytes=size_bytes)
        try:
            stored = await self._uploader.put(
                self._path,
                self._filename,
                content_type(self._container, self._opening.formats),
                delete_local=True,
            )
        except EgressError as error:
            self._failures.report(error)
            return
        self._backup.note(stored)
        record = FileRecord(self._filename, stored.location, stored.presign_error)
        self._records = Records(files=(record,))
        self._update(ended_at_ns=ended_at_ns, size_bytes=size_bytes, location=stored.location)
        end_ns = self._job.media_end_ns
        try:
            chapters = await store_chapters(self._path, self._filename, self._markers, end_ns, self._uploader)
        except EgressError as error:
            self._failures.report(error)
            return
        self._records = Records(files=(record, *chapters))
        for event in extra_files_stored(chapters, time.time_ns()):
            self._emit(event)

    async def _finalise(self) -> int:
        """Finalises the file and returns its final size. Raises EgressError when the disk does not answer, or
        fails."""

        def rewrite() -> tuple[str, int]:
            try:
                why = finalise(self._path, self._container, self._markers)
                return why, self._path.stat().st_size
            except OSError as error:
                raise disk_error(error, self._path) from error

        patience_s = disk_thread.patience_s(self.size_bytes())
        why, size_bytes = await disk_thread.in_time(f"finalising {self._filename}", rewrite, patience_s)
        if why:
            # The file still plays.
            _log.warning("%s is stored as it was recorded: %s", self._filename, why)
        return size_bytes

    def _update(self, *, ended_at_ns: int = 0, size_bytes: int = 0, location: str = "") -> None:
        assert self._job is not None and self._opening is not None
        self._emit(
            FileUpdate(
                output=self._index,
                part=self._number,
                begin_ns=self._part.begin_ns if self._part is not None else 0,
                filename=self._filename,
                started_at_ns=self._opening.started_at_ns,
                ended_at_ns=ended_at_ns,
                duration_ns=self._job.media_end_ns,
                size_bytes=size_bytes or self._job.size_bytes,
                location=location,
            )
        )


def left_in(path: Path, container: Container) -> FragmentsEnd | None:
    """Returns where a file ends that another process has left; None: there is nothing to continue. Raises
    EgressError. Blocking."""
    if container is not Container.MP4:
        return None
    try:
        return end_of(path)
    except OSError as error:
        raise disk_error(error, path) from error
