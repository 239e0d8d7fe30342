"""What a clip is cut from: the file or the segments of an output, in the spool or in its storage."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from openegress.core.clip_plan import ClipPlan, StoredPart
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError, invalid, unimplemented
from openegress.core.plan import SegmentOutput
from openegress.core.span import Span, SpanWish, shown_s
from openegress.core.units import MS
from openegress.media import Packet
from openegress.media.clip.cut import SEEK_BEFORE_NS
from openegress.media.clip.fragment_window import FragmentWindow
from openegress.media.clip.source import CLIPPED, ClipPart, ClipSource, end_ns
from openegress.media.clip.stitched import LocalBytes, Piece, Stitched
from openegress.media.fragments import OFFSET_NS
from openegress.media.mp4 import Mp4Error
from openegress.output.hls import layout
from openegress.output.hls.playlist import Segment
from openegress.output.hls.recover import parse_entries
from openegress.storage import Storage, open_storage
from openegress.storage.uploader import UploadTarget, join

T = TypeVar("T")

_MOST_PLAYLIST_BYTES = 64 * 1024 * 1024


class StoredBytes:
    """An object in a storage, read from another thread than that of the storage's loop."""

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
    """Of one StoragePlan. Methods are called outside the event loop, which runs meanwhile."""

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
        """From the storage, else from its backup. `size_bytes` is what it should have; 0: whatever it has.
        Raises EgressError."""
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
            raise EgressError(Code.PERMISSION_DENIED, f'"{path}": the storage lets this service only write')
        if size_bytes and there_bytes != size_bytes:
            why = f'"{path}" has {there_bytes} bytes and was stored with {size_bytes}: it is another one now'
            raise EgressError(Code.FAILED_PRECONDITION, why)
        return StoredBytes(storage, whole, there_bytes, self._loop)

    def exists(self, path: str) -> bool:
        """No where this service may only write. Raises EgressError."""
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
    """A span of it, opened; times of `part` are those of the recording."""

    part: ClipPart
    span: Span
    source_bytes: int
    """Of what the clip is cut from: it is no larger."""
    files: list[int] = field(default_factory=list)
    """Descriptors."""

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)


def open_recorded(plan: ClipPlan, stored: StoredObjects) -> SpanSource:
    """Blocking. Raises EgressError: for a span that it does not have, and for what is not there."""
    files: list[int] = []
    try:
        if isinstance(plan.recorded, SegmentOutput):
            return _Segments(plan, plan.recorded, stored, files).open()
        if plan.left_in:
            return _growing(plan, files)
        return _finished(plan, stored)
    except BaseException:
        for fd in files:
            os.close(fd)
        raise


def _wish(plan: ClipPlan) -> SpanWish:
    return SpanWish(plan.last_ns, plan.begin_ns, plan.end_ns)


def _growing(plan: ClipPlan, files: list[int]) -> SpanSource:
    """A file in the spool, as far as it is on the disk."""
    if getattr(plan.recorded, "split", None) is not None:
        raise unimplemented("a clip of a recording that is split, before it has ended,")
    if any(Path(plan.left_in).glob("recording-*")):
        raise unimplemented("a clip of a recording that went on in another file, before it has ended,")
    found = sorted(Path(plan.left_in).glob("recording.*"))
    # Beside it may lie the draft of what it becomes at its end.
    path = next((each for each in found if each.name.count(".") == 1), None)
    if path is None:
        raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
    container = _clipped(path.suffix)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EgressError(Code.FAILED_PRECONDITION, "the recording is being stored: ask again") from error
    files.append(fd)
    file = LocalBytes(fd)
    if container is Container.MP4:
        try:
            window = FragmentWindow(file)
        except Mp4Error:
            window = None  # it has become a plain file
        if window is not None and not window.end_ns:
            raise EgressError(Code.FAILED_PRECONDITION, "nothing is recorded yet")
        if window is not None:
            span = _wish(plan).of(window.end_ns)
            opened = window.open(max(0, span.begin_ns - SEEK_BEFORE_NS), span.end_ns)
            return SpanSource(ClipPart(container, opened), span, opened.size(), files)
    length_ns = _length_ns(container, lambda: Stitched.whole(file))
    span = _wish(plan).of(length_ns)
    part = ClipPart(container, Stitched.whole(file), is_indexed=container is Container.MP4)
    return SpanSource(part, span, _share(file.size(), span, length_ns), files)


def _finished(plan: ClipPlan, stored: StoredObjects) -> SpanSource:
    parts = plan.stored
    if not parts:
        raise EgressError(Code.NOT_FOUND, "the egress has stored no file that a clip could be cut from")
    if len(parts) == 1:
        return _of_file(parts[0], stored, _wish(plan), 0)
    span = _wish(plan).of(sum(each.length_ns for each in parts))
    begin_ns = 0
    for part in parts:
        end_of_part_ns = begin_ns + part.length_ns
        if span.begin_ns < end_of_part_ns:
            if span.end_ns > end_of_part_ns + 100 * MS:
                raise unimplemented(
                    f"a clip over two parts of a split recording (one ends at {shown_s(end_of_part_ns)})"
                )
            wish = SpanWish(None, span.begin_ns - begin_ns, min(span.end_ns, end_of_part_ns) - begin_ns)
            return _of_file(part, stored, wish, begin_ns)
        begin_ns = end_of_part_ns
    raise invalid(f"from: {shown_s(span.begin_ns)} is beyond the end")


def _of_file(part: StoredPart, stored: StoredObjects, wish: SpanWish, part_begin_ns: int) -> SpanSource:
    container = _clipped(Path(part.path).suffix)
    file = stored.bytes_of(part.path, size_bytes=part.size_bytes)
    # A file without an index is read to its end to know it; EgressInfo tells it as well.
    length_ns = part.length_ns or _length_ns(container, lambda: Stitched.whole(file))
    span = wish.of(length_ns)
    is_indexed = container in (Container.MP4, Container.WEBM)
    return SpanSource(
        ClipPart(container, Stitched.whole(file), is_indexed=is_indexed),
        span,
        _share(file.size(), span, length_ns),
    )


def _clipped(suffix: str) -> Container:
    try:
        container = Container(suffix.lower().removeprefix("."))
    except ValueError:
        container = None
    if container in (Container.MKV, Container.MKA, Container.MCAP):
        raise unimplemented(
            "a clip of a recording of all tracks (`openegress compose` makes a film of part of it)"
        )
    if container not in CLIPPED:
        raise unimplemented(f"a clip of a file that ends in {suffix[:16]}")
    return container


def _length_ns(container: Container, opened: Callable[[], Stitched]) -> int:
    """By its header, else by its packets: one that grows has none."""
    source = ClipSource(ClipPart(container, opened()))
    try:
        if container is Container.MP4 and source.duration_ns:
            return source.duration_ns
        return end_ns(source)
    finally:
        source.close()


def _share(size_bytes: int, span: Span, length_ns: int) -> int:
    return min(size_bytes, size_bytes * span.length_ns // max(1, length_ns) * 2)


class _Segments:
    """Of an HLS output: those in the spool, and those that are stored."""

    def __init__(
        self, plan: ClipPlan, output: SegmentOutput, stored: StoredObjects, files: list[int]
    ) -> None:
        self._plan = plan
        self._output = output
        self._stored = stored
        self._files = files
        self._directory = plan.playlist[: plan.playlist.rfind("/") + 1]
        self._text = ""
        """Of the playlist."""

    def open(self) -> SpanSource:
        entries = parse_entries(self._listing())
        if not entries:
            raise EgressError(Code.FAILED_PRECONDITION, "no segment of the egress is whole yet")
        starts = _starts(entries)
        length_ns = starts[-1] + entries[-1].duration_ns
        span = _wish(self._plan).of(length_ns)
        first = max(0, sum(start <= max(0, span.begin_ns - SEEK_BEFORE_NS) for start in starts) - 1)
        while first and not self._has_key(entries, starts, first, span.begin_ns):
            first -= 1
        last = max(first, sum(start < span.end_ns for start in starts) - 1)
        chosen = range(first, last + 1)
        self._refuse_breaks([entries[n] for n in chosen], [starts[n] for n in chosen])
        pieces = self._pieces(entries, chosen)
        late_ns = OFFSET_NS + self._ahead_ns(pieces, starts[first])
        opened = Stitched(pieces)
        part = ClipPart(self._output.container, opened, late_ns=late_ns, begin_ns=starts[first])
        return SpanSource(part, span, opened.size(), self._files)

    def _pieces(self, entries: Sequence[Segment], chosen: Iterable[int]) -> list[Piece]:
        pieces: list[Piece] = []
        for n in chosen:
            if self._output.container is Container.FMP4 and not pieces:
                pieces.append(self._piece(entries[n].init, self._init_of(entries, n)))
            local = layout.segment(Path(self._plan.left_in), n, f".{self._output.container.value}")
            pieces.append(self._piece(entries[n].uri, local if self._plan.left_in else None))
        return pieces

    def _has_key(self, entries: Sequence[Segment], starts: Sequence[int], number: int, begin_ns: int) -> bool:
        """Whether the segment has a key frame before the span. One of a track that is recorded as it comes
        may have none at all."""
        if self._is_independent:
            return True
        file = Stitched(self._pieces(entries, [number]))
        source = ClipSource(ClipPart(self._output.container, file, OFFSET_NS, begin_ns=starts[number]))
        try:
            if source.video_codec is None:
                return True
            videos = (each for each in source.packets(0) if each.kind is MediaKind.VIDEO)
            return any(each.is_key and each.pts_ns <= begin_ns for each in videos)
        finally:
            source.close()

    def _ahead_ns(self, pieces: list[Piece], begin_ns: int) -> int:
        """By how much time in the segments is ahead of that in the playlist, which players go by: the first
        picture came late, or nothing came for long."""
        part = ClipPart(self._output.container, Stitched(pieces), late_ns=OFFSET_NS, begin_ns=begin_ns)
        source = ClipSource(part)
        try:
            firsts = _firsts(source)
        finally:
            source.close()
        if not firsts:
            return 0
        video = firsts.get(MediaKind.VIDEO)
        # A segment begins with a key frame or, where none came in time, with whatever came then.
        begun = video if video is not None and video.is_key else min(firsts.values(), key=lambda p: p.pts_ns)
        # What an encoder of sound puts before media time zero is not heard.
        return max(0, begun.pts_ns) - begin_ns

    def _listing(self) -> str:
        if self._plan.left_in:
            made = Path(self._plan.left_in) / layout.MADE
            self._text = made.read_text() if made.exists() else ""
            return self._text
        file = self._stored.bytes_of(self._plan.playlist)
        self._text = file.read_at(0, min(file.size(), _MOST_PLAYLIST_BYTES)).decode(errors="replace")
        return self._text

    @property
    def _is_independent(self) -> bool:
        return "#EXT-X-INDEPENDENT-SEGMENTS" in self._text

    def _init_of(self, entries: Sequence[Segment], index: int) -> Path | None:
        if not self._plan.left_in:
            return None
        inits = list(dict.fromkeys(each.init for each in entries))
        return layout.init(Path(self._plan.left_in), inits.index(entries[index].init))

    def _piece(self, uri: str, local: Path | None) -> Piece:
        """From the spool while it is there."""
        if local is not None:
            try:
                fd = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                pass
            else:
                self._files.append(fd)
                own = LocalBytes(fd)
                return Piece(own, 0, own.size())
        file = self._stored.bytes_of(self._directory + uri)
        return Piece(file, 0, file.size())

    def _refuse_breaks(self, entries: Sequence[Segment], starts: Sequence[int]) -> None:
        """Raises EgressError where pictures change their format within the clip."""
        for before, each, start in zip(entries, entries[1:], starts[1:], strict=False):
            if each.init != before.init:
                raise unimplemented(
                    f"a clip of segments whose pictures change their size (they do at {shown_s(start)})"
                )


def _firsts(source: ClipSource) -> dict[MediaKind, Packet]:
    """The first packet of each kind."""
    wanted = (source.video_codec is not None) + (source.audio_codec is not None)
    found: dict[MediaKind, Packet] = {}
    for packet in source.packets(0):
        found.setdefault(packet.kind, packet)
        if len(found) == wanted:
            break
    return found


def _starts(entries: Sequence[Segment]) -> list[int]:
    """Where each begins for who plays them."""
    starts: list[int] = []
    at_ns = 0
    for each in entries:
        starts.append(at_ns)
        at_ns += each.duration_ns
    return starts
