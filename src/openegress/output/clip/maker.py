"""Makes one clip, from its plan to the storage."""

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from av.error import FFmpegError

from openegress.core.clip_plan import ClipMade, ClipPlan
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.span import Span
from openegress.core.units import MS
from openegress.media.clip.chained_tracks import ChainedTracks
from openegress.media.clip.cut import CLIP_CONTAINER, CutPictures, cut
from openegress.media.clip.tracks import cut_tracks
from openegress.media.duration import has_video
from openegress.output.clip.recorded import open_recorded
from openegress.output.clip.stored_objects import SpanSource, StoredObjects
from openegress.output.content_types import content_type_of
from openegress.output.disk_thread import DiskThread
from openegress.output.file.finalise import finalise
from openegress.output.spool_file import SpoolFile, disk_error
from openegress.request import naming
from openegress.request.name_length import limit_of, squeezed
from openegress.storage.uploader import Uploader

_SPARE_BYTES = 512 * 1024 * 1024
"""Space that a clip leaves free on the disk that recordings are written to."""
_MAX_S = 3600.0


class _LargeFile(SpoolFile):
    """A file that stops growing once the disk has little space left, as that belongs to recordings."""

    _LOOK_EVERY = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._looked = 0

    def write(self, data: bytes) -> int:
        written = super().write(data)
        if self.size_bytes - self._looked > self._LOOK_EVERY:
            self._looked = self.size_bytes
            refuse_scarce(self.path.parent, self.size_bytes)
        return written


class ClipMaker:
    """Makes one clip. Call it in the event loop. `uploader` is that of the clip's storage."""

    def __init__(
        self, plan: ClipPlan, spool: Path, uploader: Uploader, claim: Callable[[str], Awaitable[None]]
    ) -> None:
        """`claim`: asks for the path of the clip, and raises EgressError if something else is being written
        there."""
        self._plan = plan
        self._claim = claim
        self._folder = spool / plan.clip_id
        self._uploader = uploader
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Cancels the clip, when nobody waits for it any more. Thread-safe."""
        self._stopped.set()

    async def make(self) -> ClipMade:
        """Makes the clip. Raises EgressError. Leaves nothing in the spool."""
        loop = asyncio.get_running_loop()
        stored = StoredObjects(self._plan, loop)
        thread = DiskThread(f"clip {self._plan.clip_id}")
        local = self._folder / "clip"
        try:
            span, container, pictures = await thread.result(
                functools.partial(self._cut, stored, local), _MAX_S
            )
            path = self._path(span, container)
            await self._claim(path)
            await thread.result(functools.partial(self._refuse_taken, stored, path), _MAX_S)
            with_video = container in (Container.MP4, Container.WEBM) and await thread.result(
                functools.partial(has_video, local), _MAX_S
            )
            kind = content_type_of(container, with_video=with_video)
            put = await self._uploader.put(local, path, kind)
        finally:
            thread.close()
            await stored.close()
            await self._uploader.close()
            local.unlink(missing_ok=True)
        return ClipMade(
            filename=path,
            location=put.location,
            presign_error=put.presign_error,
            begin_ns=span.begin_ns,
            end_ns=span.end_ns,
            size_bytes=put.size_bytes,
            backup_used=put.backup_used,
            copied=pictures.copied,
            encoded=pictures.encoded,
        )

    def _cut(self, stored: StoredObjects, local: Path) -> tuple[Span, Container, CutPictures]:
        recorded = open_recorded(self._plan, stored)
        try:
            return self._cut_from(recorded, local)
        finally:
            recorded.close()

    def _cut_from(self, recorded: SpanSource, local: Path) -> tuple[Span, Container, CutPictures]:
        container = CLIP_CONTAINER[recorded.parts[0].container]
        # Twice the size: an MP4 is rewritten with its index in front.
        refuse_scarce(local.parent, 2 * recorded.source_bytes)
        sink = _LargeFile(local)
        try:
            pictures = _cut(recorded, container, sink, self._stopped.is_set)
            sink.release()
        except FFmpegError as error:
            if sink.error is not None:
                raise disk_error(sink.error, local) from error
            raise internal(f"the clip could not be written: {error}", Phase.RECORDING) from error
        except OSError as error:
            raise disk_error(error, local) from error
        if self._stopped.is_set():
            raise EgressError(Code.CANCELED, "the clip was given up", fault=Fault.SERVICE)
        if why := finalise(local, container):
            raise internal(f"the clip could not be finished: {why}", Phase.FINISH)
        return recorded.span, container, pictures

    def _path(self, span: Span, container: Container) -> str:
        """Returns the clip's path in the storage."""
        target, extension = self._plan.target, f".{container.value}"
        filled = naming.fill(target.filepath, {"from": place(span.begin_ns), "to": place(span.end_ns)})
        whole = naming.with_extension(filled, extension)
        stem = squeezed(whole.removesuffix(extension), limit_of(target.storage), len(extension))
        return stem + extension

    def _refuse_taken(self, stored: StoredObjects, path: str) -> None:
        """Raises EgressError if the clip would overwrite something else."""
        if path in self._plan.taken or stored.exists(path):
            raise EgressError(
                Code.ALREADY_EXISTS, f'filepath: "{path}" exists already; give the clip another name'
            )


def _cut(
    recorded: SpanSource, container: Container, sink: _LargeFile, is_stopped: Callable[[], bool]
) -> CutPictures:
    """Cuts the clip into `sink`. Raises EgressError, FFmpegError and OSError."""
    files = [(part.tracks, -part.late_ns) for part in recorded.parts if part.tracks is not None]
    if not files:
        return cut(recorded.parts, recorded.span, sink, is_stopped)
    source = ChainedTracks(files, recorded.span.begin_ns)
    return cut_tracks(source, container, recorded.span, sink, is_stopped)


def place(ns: int) -> str:
    """Formats a time as hh-mm-ss.mmm, for file names."""
    ms = ns // MS
    return f"{ms // 3_600_000:02d}-{ms // 60_000 % 60:02d}-{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def refuse_scarce(folder: Path, size_bytes: int) -> None:
    """Raises EgressError if `size_bytes` more would leave too little of the disk for recordings."""
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < size_bytes + _SPARE_BYTES:
        raise EgressError(
            Code.RESOURCE_EXHAUSTED,
            f"the clip needs {size_bytes // 10**6} MB on the spool's disk; it has {free_bytes // 10**6} MB,"
            f" of which {_SPARE_BYTES // 10**6} MB are kept for recordings: free some space, or ask for less",
            fault=Fault.SERVICE,
        )
