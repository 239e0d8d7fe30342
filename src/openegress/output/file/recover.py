"""Completes and stores a file that a dead process has left."""

import asyncio
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openegress.core import plan
from openegress.core.codecs import MATROSKA, Container
from openegress.core.errors import internal
from openegress.core.events import FileUpdate
from openegress.core.marker import Marker
from openegress.media.duration import duration_ns, has_video, holds_media
from openegress.output.content_types import content_type_of
from openegress.output.disk_thread import in_time, patience_s
from openegress.output.file.chapters_file import store_chapters
from openegress.output.file.finalise import finalise
from openegress.output.manifest import FileRecord, Records
from openegress.output.size_guard import MATROSKA_HEADER_BYTES
from openegress.output.spool_file import HEADER_BYTES
from openegress.request.output_names import superseded_name
from openegress.request.part_names import spool_name
from openegress.storage import backed_up
from openegress.storage.late import LateUploads, Superseded
from openegress.storage.uploader import Uploader

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptFile:
    """The result of recovering a file."""

    update: FileUpdate
    records: Records
    """The file, followed by its chapters."""
    backup_used: bool


def local_path(folder: Path, output: plan.FileOutput, told: FileUpdate) -> Path:
    """Returns the file's path in the `folder` of the output."""
    return folder / spool_name(output, told.part, container_of(told))


def container_of(told: FileUpdate) -> Container:
    return Container(Path(told.filename).suffix.removeprefix("."))


async def store_left_file(
    folder: Path,
    output: plan.FileOutput,
    told: FileUpdate,
    markers: Sequence[Marker],
    egress_id: str,
    uploader: Uploader,
    late: LateUploads | None = None,
) -> KeptFile | None:
    """Completes and stores the file. `folder` is that of the output, `told` is the last update of the file.
    `late`: as in Uploader.put(). Returns None if no frame had reached the file. Raises EgressError when
    nothing of it plays, or no storage takes it."""
    local, container = local_path(folder, output, told), container_of(told)
    if not local.exists():
        return await _find(local, told, markers, uploader)
    restored = await in_time(
        f"recovery of {told.filename}",
        functools.partial(_restore, local, container, told.filename, markers),
        patience_s(local.stat().st_size),
    )
    if restored is None:
        _log.warning("no frame had reached %s", told.filename)
        return None
    if restored.why:
        _log.warning("%s is kept as it was recorded: %s", told.filename, restored.why)
    kind = content_type_of(container, with_video=restored.has_video)
    try:
        stored = await uploader.put(local, told.filename, kind, delete_local=True, late=late)
    except Superseded as superseded:
        beside = superseded_name(told.filename, egress_id, output)
        _log.warning("%s; this one goes to %s", superseded.message, beside)
        stored = await uploader.put(local, beside, kind, delete_local=True, late=late)
        told = msgspec.structs.replace(told, filename=beside)
    chapters = await store_chapters(local, told.filename, markers, restored.duration_ns, uploader)
    record = FileRecord(told.filename, stored.location, stored.presign_error)
    update = _ended(told, restored.duration_ns, restored.size_bytes, stored.location)
    return KeptFile(update, Records(files=(record, *chapters)), stored.backup_used)


async def _find(local: Path, told: FileUpdate, markers: Sequence[Marker], uploader: Uploader) -> KeptFile:
    """Describes a file that was stored; only the report of that may have been lost."""
    on_backup = local.name in await asyncio.to_thread(backed_up.names, local.parent)
    if told.location:
        record = FileRecord(told.filename, told.location)
    else:
        stored = await uploader.locate(told.filename, on_backup=on_backup)
        record = FileRecord(told.filename, stored.location, stored.presign_error)
    chapters = await store_chapters(local, told.filename, markers, told.duration_ns, uploader)
    update = _ended(told, told.duration_ns, told.size_bytes, record.location)
    return KeptFile(update, Records(files=(record, *chapters)), on_backup)


@dataclass(frozen=True, slots=True)
class _Restored:
    """A file in the form in which it is stored."""

    why: str
    """The reason why it stayed as it was recorded; "": it is finalised."""
    duration_ns: int
    size_bytes: int
    has_video: bool


def _restore(local: Path, container: Container, filename: str, markers: Sequence[Marker]) -> _Restored | None:
    """Completes the file; None: no frame had reached it. Raises EgressError when nothing of it plays.
    Blocking."""
    recorded_bytes = local.stat().st_size
    why = finalise(local, container, markers)
    duration = duration_ns(local)
    if duration or holds_media(local):
        return _Restored(why, duration, local.stat().st_size, has_video(local))
    if recorded_bytes > (MATROSKA_HEADER_BYTES if container in MATROSKA else HEADER_BYTES):
        raise internal(f"nothing playable was recorded of {filename}")
    return None


def _ended(told: FileUpdate, duration: int, size_bytes: int, location: str) -> FileUpdate:
    return msgspec.structs.replace(
        told,
        ended_at_ns=told.ended_at_ns or told.started_at_ns + duration,
        duration_ns=duration,
        size_bytes=size_bytes,
        location=location,
    )
