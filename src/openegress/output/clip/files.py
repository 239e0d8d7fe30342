"""Opens a clip's source that is a file, or several consecutive ones: in the spool while it grows, in the
storage once it is complete."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from openegress.core.clip_plan import ClipPlan, StoredPart
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, unimplemented
from openegress.core.plan import FileOutput
from openegress.core.span import RequestedSpan
from openegress.media.clip import Bytes
from openegress.media.clip.clipped_tracks import ClippedTracks
from openegress.media.clip.cut import SEEK_BEFORE_NS
from openegress.media.clip.fragment_window import FragmentWindow
from openegress.media.clip.matroska_source import MatroskaTracks
from openegress.media.clip.mcap_source import McapTracks
from openegress.media.clip.mp4_source import Mp4Tracks, is_of_tracks
from openegress.media.clip.source import CLIPPED, ClipPart, ClipSource, end_ns
from openegress.media.clip.stitched import LocalBytes, Stitched
from openegress.media.fragment_index import begins_with_fragments
from openegress.media.mp4 import Mp4Error
from openegress.output.clip.stored_objects import SpanSource, StoredBytes, StoredObjects
from openegress.request.part_names import spool_name

TRACK_CONTAINERS = (Container.MKV, Container.MKA, Container.MCAP)


class _RecordedFile(Protocol):
    """One file of a recording, with times of its own."""

    length_ns: int

    def open(self, begin_ns: int, end_ns: int) -> tuple[ClipPart, int]:
        """Returns the parts that contain the span, and the largest size of a clip of it."""


def open_files(plan: ClipPlan, stored: StoredObjects, files: list[int]) -> SpanSource:
    """Opens the span of a plan. `files`: owns the descriptors that are opened. Blocking. Raises
    EgressError."""
    recorded = _growing(plan, stored, files) if plan.left_in else _finished(plan, stored)
    length_ns = sum(each.length_ns for each in recorded)
    span = RequestedSpan(plan.last_ns, plan.begin_ns, plan.end_ns).of(length_ns)
    parts: list[ClipPart] = []
    source_bytes = begin_ns = 0
    for each in recorded:
        # A decoder of sound needs some sound before the span. The last part may hold slightly more than
        # reported.
        is_last = each is recorded[-1]
        reaches = begin_ns + each.length_ns > span.begin_ns - SEEK_BEFORE_NS or is_last
        if reaches and begin_ns < span.end_ns:
            part, size_bytes = each.open(span.begin_ns - begin_ns, span.end_ns - begin_ns)
            parts.append(replace(part, late_ns=-begin_ns))
            source_bytes += size_bytes
        begin_ns += each.length_ns
    return SpanSource(tuple(parts), span, source_bytes, files)


def _growing(plan: ClipPlan, stored: StoredObjects, files: list[int]) -> list[_RecordedFile]:
    """Returns the parts of a recording, of which the last one grows."""
    assert isinstance(plan.recorded, FileOutput)
    folder, recorded = Path(plan.left_in), list[_RecordedFile]()
    container = _container_in(folder, plan.stored)
    while container is not None:
        number = len(recorded)
        path = folder / spool_name(plan.recorded, number, container)
        if path.exists():
            try:
                recorded.append(GrowingFile(path, files))
            except EgressError:
                if not recorded:
                    raise
                break  # the part has just begun
        elif number < len(plan.stored):
            recorded.append(_InStorage(plan.stored[number], stored))
        else:
            break
    if not recorded:
        raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
    return recorded


def _container_in(folder: Path, stored: Sequence[StoredPart]) -> Container | None:
    """Returns the container of the files of a running output. A file may have the draft of its final form
    beside it."""
    names = [each.name for each in sorted(folder.glob("recording*.*")) if each.name.count(".") == 1]
    names += [each.path for each in stored if each.size_bytes]
    return clipped(Path(names[0]).suffix) if names else None


def _finished(plan: ClipPlan, stored: StoredObjects) -> list[_RecordedFile]:
    if not plan.stored:
        raise EgressError(Code.NOT_FOUND, "the egress has stored no file that a clip could be cut from")
    return [_InStorage(part, stored) for part in plan.stored]


class GrowingFile:
    """A growing file, up to what is on the disk."""

    def __init__(self, path: Path, files: list[int]) -> None:
        """Raises EgressError if the file is empty, or no longer exists."""
        self._container = clipped(path.suffix)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            why = "the recording is being stored: ask again"
            raise EgressError(Code.FAILED_PRECONDITION, why) from error
        files.append(fd)
        self._file = LocalBytes(fd)
        self._window: FragmentWindow | None = None
        self._tracks = tracks_of(self._container, self._file)
        if self._container is Container.MP4 and not _is_plain(self._file):
            self._window = _window(self._file)
        if self._window is not None and not self._window.end_ns:
            raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
        if self._tracks is not None:
            self.length_ns = self._tracks.length_ns
        elif self._window is not None:
            self.length_ns = self._window.end_ns
        else:
            self.length_ns = _length_ns(self._container, lambda: Stitched.whole(self._file))

    def open(self, begin_ns: int, end_ns: int) -> tuple[ClipPart, int]:
        if self._window is not None:
            opened = self._window.open(max(0, begin_ns - SEEK_BEFORE_NS), end_ns)
            return with_tracks(ClipPart(self._container, opened), self.length_ns), opened.size()
        is_indexed = self._container is Container.MP4
        part = ClipPart(
            self._container, Stitched.whole(self._file), is_indexed=is_indexed, tracks=self._tracks
        )
        size_bytes = _share(self._file.size(), begin_ns, end_ns, self.length_ns)
        return with_tracks(part, self.length_ns), size_bytes


class _InStorage:
    """A complete file in the storage."""

    def __init__(self, part: StoredPart, stored: StoredObjects) -> None:
        self._part = part
        self._stored = stored
        self._container = clipped(Path(part.path).suffix)
        self._tracks = tracks_of(self._container, self._bytes)
        if self._tracks is not None:
            self.length_ns = self._tracks.length_ns
            return
        # Finding the length of a file without an index takes reading it all; EgressInfo states it too.
        self.length_ns = part.length_ns or _length_ns(self._container, lambda: Stitched.whole(self._bytes))

    @property
    def _bytes(self) -> StoredBytes:
        return self._stored.bytes_of(self._part.path, size_bytes=self._part.size_bytes)

    def open(self, begin_ns: int, end_ns: int) -> tuple[ClipPart, int]:
        file = self._bytes
        is_indexed = self._container in (Container.MP4, Container.WEBM)
        part = ClipPart(self._container, Stitched.whole(file), is_indexed=is_indexed, tracks=self._tracks)
        return with_tracks(part, self.length_ns), _share(file.size(), begin_ns, end_ns, self.length_ns)


def clipped(suffix: str) -> Container:
    """Returns the container of a suffix. Raises EgressError for one that cannot be clipped."""
    try:
        container = Container(suffix.lower().removeprefix("."))
    except ValueError:
        container = None
    if container not in CLIPPED and container not in TRACK_CONTAINERS:
        raise unimplemented(f"a clip of a file that ends in {suffix[:16]}")
    return container


def _window(file: Bytes) -> FragmentWindow:
    """Opens the fragments of a growing MP4. Raises EgressError if it has none yet."""
    try:
        return FragmentWindow(file)
    except Mp4Error as error:
        raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet") from error


def _is_plain(file: Bytes) -> bool:
    """Whether an MP4 has ended, and is being stored."""
    try:
        return not begins_with_fragments(Stitched.whole(file), file.size())
    except Mp4Error:
        return True


def tracks_of(container: Container, file: Bytes) -> ClippedTracks | None:
    """Opens the tracks of a file; None: it does not hold all tracks, or is an MP4. Raises EgressError."""
    match container:
        case Container.MKV | Container.MKA:
            return MatroskaTracks(file)
        case Container.MCAP:
            return McapTracks(file)
        case _:
            return None


def with_tracks(part: ClipPart, length_ns: int) -> ClipPart:
    """Adds the tracks of an MP4 that states that it holds all tracks. Raises EgressError."""
    if part.container is not Container.MP4 or not is_of_tracks(part):
        return part
    return replace(part, tracks=Mp4Tracks(part, length_ns))


def _length_ns(container: Container, opened: Callable[[], Stitched]) -> int:
    """Returns the length from the header, or else from the packets: a growing file has no length in its
    header."""
    source = ClipSource(ClipPart(container, opened()))
    try:
        if container is Container.MP4 and source.duration_ns:
            return source.duration_ns
        return end_ns(source)
    finally:
        source.close()


def _share(size_bytes: int, begin_ns: int, end_ns: int, length_ns: int) -> int:
    span_ns = min(end_ns, length_ns) - max(0, begin_ns)
    return min(size_bytes, size_bytes * max(0, span_ns) // max(1, length_ns) * 2)
