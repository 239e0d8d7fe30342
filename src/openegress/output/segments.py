"""HLS: segments cut on key frames, a playlist of all and a live one, stored while they are made."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from openegress.core import naming, plan
from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import BackupUsed, SegmentsUpdate
from openegress.media import NS, Packet
from openegress.media.interleave import Interleaver
from openegress.media.muxer import MAX_DELAY_NS, check_fit
from openegress.media.passthrough import FormatChanges, renewed
from openegress.output import Emit, Opening, playlist, segment_spool
from openegress.output.cutter import Cutter
from openegress.output.disk_thread import ANSWER_TIMEOUT_S, DiskThread
from openegress.output.failure import FailureReport
from openegress.output.file import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S
from openegress.output.manifest import FileRecord, PlaylistRecord, Records
from openegress.output.naming import PLAYLIST_TYPE, content_type
from openegress.output.segment_file import SegmentFile
from openegress.output.spool import folder, replace
from openegress.output.uploads import OrderedUploads, Upload
from openegress.output.writer import QueuedWriter
from openegress.storage.uploader import Stored, Uploader

_PUBLISH_EVERY = 5
"""Segments after which the playlists are stored even though more segments wait."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment that is whole on the local disk."""

    local: Path
    uri: str
    """Relative to the playlist."""
    entry: playlist.Segment
    size_bytes: int


class SegmentOutput:
    """A segmented recording."""

    def __init__(self, output: plan.SegmentOutput, index: int, *, emit: Emit, uploader: Uploader) -> None:
        """Called in the event loop, in which the uploads run."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._uploader = uploader
        self._failures = FailureReport(index, emit)
        self._opening: Opening | None = None
        self._writer: QueuedWriter | None = None
        self._job: _SegmentJob | None = None
        self._uploads = OrderedUploads(uploader)
        self._promise = playlist.Promise.of(output.segment_s, passed_through=False)
        self._folder = Path()
        self._names = _Names("", "", "", "")
        self._stored: list[tuple[Finished, Stored]] = []
        self._listing = playlist.Listing(self._promise)
        """Of what is stored. Nothing is added while a publication reads it in its thread."""
        self._disk: DiskThread | None = None
        """Writes playlists."""
        self._locations: dict[str, str] = {}
        self._backup_told = False
        self._ended_at_ns = 0
        self._is_published = False
        """With the end mark."""

    def open(self, opening: Opening) -> None:
        """Raises EgressError when the disk refuses or the container does not take the codecs."""
        check_fit(self._plan.container, opening.formats)
        self._opening = opening
        self._folder = folder(opening.spool, f"segments-{self._index}")
        self._names = _Names.of(self._plan, opening.name_values)
        self._promise = playlist.Promise.of(
            self._plan.segment_s, passed_through=any(f.is_passed_through for f in opening.formats)
        )
        self._listing = playlist.Listing(self._promise)
        self._job = _SegmentJob(
            self._folder, self._names, self._plan, opening, self._promise, self._on_init, self._on_segment
        )
        name = f"segment output {self._names.playlist}"
        self._writer = QueuedWriter(name, self._job, self._failures.report)
        self._writer.start(OPEN_TIMEOUT_S)
        self._disk = DiskThread(f"playlists of {name}")
        self._update()

    def write(self, packet: Packet) -> None:
        if self._writer is not None:
            self._writer.put(packet)

    async def finish(self, ended_at_ns: int) -> None:
        """Closes the last segment, stores what is left and the playlists with their end mark."""
        if self._writer is None or self._job is None:
            return
        try:
            await self._writer.finish(CLOSE_TIMEOUT_S)
        except EgressError as error:
            self._failures.report(error)
        if self._job.is_over:
            await self._store(ended_at_ns)
        else:
            # What waits is read from the disk that hangs; and so would the journal at an update.
            await self._uploads.abandon()
        if self._disk is not None:
            self._disk.close()
        await self._uploader.close()
        self._failures.raise_if_any()

    async def _store(self, ended_at_ns: int) -> None:
        self._ended_at_ns = ended_at_ns
        self._update()
        try:
            await self._uploads.finish()
            if self._stored:
                await self._publish(ended=True)
                self._is_published = True
            else:
                self._failures.report(internal("no frame reached the segments", Phase.RECORDING))
        except EgressError as error:
            self._failures.report(error)
        self._update()

    def size_bytes(self) -> int:
        return self._job.size_bytes if self._job else 0

    def waiting_uploads(self) -> int:
        return self._uploads.pending

    def records(self) -> Records:
        """What the manifest lists, after finish()."""
        segments = tuple(
            FileRecord(self._names.directory + done.uri, stored.location, stored.presign_error)
            for done, stored in self._stored
        )
        location = self._locations.get(self._names.playlist, "")
        return Records(playlists=(PlaylistRecord(location, segments),)) if segments else Records()

    def is_settled(self) -> bool:
        """Segments and playlists are stored, or there are none; what a stuck disk may still be at, is not."""
        if self._job is None:
            return True
        is_all_stored = self._job.is_over and self._job.segment_count == len(self._stored)
        return is_all_stored and (self._is_published or not self._stored)

    async def written(self) -> None:
        """Returns when every packet until now has been written to its segment."""
        if self._writer is not None:
            await self._writer.written()

    async def stored(self) -> None:
        """Returns when every segment made until now is stored, or has been tried."""
        await self._uploads.settled()

    # --- from the writer's thread

    def _on_init(self, local: Path, uri: str) -> None:
        # Without it a segment that a dead process leaves unfinished could not be read.
        self._upload(local, uri, self._after_init, keep_local=True)

    def _on_segment(self, done: Finished) -> None:
        self._upload(done.local, done.uri, functools.partial(self._after_segment, done))
        self._update()

    def _upload(
        self, local: Path, uri: str, then: Callable[[Stored], Awaitable[None]], *, keep_local: bool = False
    ) -> None:
        assert self._opening is not None
        kind = content_type(self._plan.container, self._opening.formats)
        self._uploads.add(Upload(local, self._names.directory + uri, kind, then, keep_local))

    # --- in the event loop

    async def _after_init(self, stored: Stored) -> None:
        self._note_backup(stored)

    async def _after_segment(self, done: Finished, stored: Stored) -> None:
        self._note_backup(stored)
        self._stored.append((done, stored))
        self._listing.add(done.entry)
        # With others on their way, the playlist that lists them all may come later, but not much.
        if not self._ended_at_ns and (not self._uploads.pending or len(self._stored) % _PUBLISH_EVERY == 0):
            await self._publish(ended=False)

    async def _publish(self, *, ended: bool) -> None:
        """Stores the playlists of what is stored."""
        assert self._disk is not None
        kinds = [(self._names.playlist, playlist.Kind.FULL), (self._names.live_playlist, playlist.Kind.LIVE)]
        for name, kind in kinds:
            if not name:
                continue
            local = self._folder / f"stored-{kind.name.lower()}.m3u8"
            # A playlist of days has megabytes: not in the event loop, which receives media.
            write = functools.partial(_write, local, self._listing, kind, ended=ended)
            await self._disk.result(write, ANSWER_TIMEOUT_S)
            stored = await self._uploader.put(
                local, self._names.directory + name, PLAYLIST_TYPE, delete_local=ended
            )
            self._locations[name] = stored.location
            self._note_backup(stored)
        self._update()

    def _note_backup(self, stored: Stored) -> None:
        if stored.backup_used and not self._backup_told:
            self._backup_told = True
            self._emit(BackupUsed(self._index))

    def _update(self) -> None:
        assert self._job is not None and self._opening is not None
        names = self._names
        self._emit(
            SegmentsUpdate(
                output=self._index,
                playlist_name=names.directory + names.playlist,
                live_playlist_name=names.directory + names.live_playlist if names.live_playlist else "",
                playlist_location=self._locations.get(names.playlist, ""),
                live_playlist_location=self._locations.get(names.live_playlist, ""),
                segment_count=self._job.segment_count,
                started_at_ns=self._opening.started_at_ns,
                ended_at_ns=self._ended_at_ns,
                duration_ns=self._job.media_end_ns,
                size_bytes=self._job.size_bytes,
            )
        )


@dataclass(frozen=True, slots=True)
class _Names:
    directory: str
    prefix: str
    playlist: str
    live_playlist: str

    @classmethod
    def of(cls, output: plan.SegmentOutput, values: dict[str, str]) -> "_Names":
        return cls(
            directory=naming.fill(output.directory, values),
            prefix=naming.fill(output.prefix, values),
            playlist=naming.fill(output.playlist, values),
            live_playlist=naming.fill(output.live_playlist, values) if output.live_playlist else "",
        )


class _SegmentJob:
    """The segments as the writer's thread sees them (output.writer.Job)."""

    def __init__(
        self,
        where: Path,
        names: _Names,
        output: plan.SegmentOutput,
        opening: Opening,
        promise: playlist.Promise,
        on_init: Callable[[Path, str], None],
        on_segment: Callable[[Finished], None],
    ) -> None:
        self._folder = where
        self._names = names
        self._plan = output
        self._formats = opening.formats
        self._promise = promise
        self._started_at_ns = opening.started_at_ns
        self._on_init = on_init
        self._on_segment = on_segment
        kinds = [f.kind for f in opening.formats]
        self._interleaver = Interleaver(kinds, MAX_DELAY_NS)
        self._cutter = Cutter(
            output.segment_s * NS, has_video=MediaKind.VIDEO in kinds, limit_ns=promise.limit_ns
        )
        self._changes = FormatChanges(opening.formats)
        self._current: SegmentFile | None = None
        self._is_discontinuous = False
        """Where the current segment begins, formats change or time leaps."""
        self._early: list[Packet] = []
        self._init = b""
        """The initialisation segment in force."""
        self._inits = 0
        """How many there were."""
        self._finished = playlist.Listing(promise)
        self._finished_bytes = 0
        self.media_end_ns = 0
        self.segment_count = 0
        self.is_over = False
        """Nothing more is written: closed, or aborted."""

    @property
    def size_bytes(self) -> int:
        return self._finished_bytes + (self._current.size_bytes if self._current else 0)

    def open(self) -> None:
        """A segment is opened by its first packet."""

    def write(self, packet: Packet) -> None:
        for each in self._interleaver.push(packet):
            self._take(each)

    def close(self) -> None:
        for each in self._interleaver.flush():
            self._take(each)
        self._end_segment(None, ended=True)
        self.is_over = True

    def abort(self, error: EgressError) -> None:
        try:
            self._end_segment(None, ended=True)
        except EgressError as again:
            error.add_note(f"and while closing: {again.message}")
        self.is_over = True

    def _take(self, packet: Packet) -> None:
        is_new_format = self._changes.begin_with(packet)
        if is_new_format:
            self._formats = renewed(self._formats, packet)
        if self._cutter.begins(packet, is_new_format=is_new_format):
            leaps = self._end_segment(packet.pts_ns, ended=False)
            self._is_discontinuous = is_new_format or leaps
            self._begin_segment(packet)
        if self._current is None:
            # Sound before the first key frame.
            self._early.append(packet)
            return
        self._current.write(packet)
        self.media_end_ns = max(self.media_end_ns, self._current.end_ns)

    def _begin_segment(self, first: Packet) -> None:
        extension = f".{self._plan.container.value}"
        index = self.segment_count
        local = segment_spool.segment(self._folder, index, extension)
        segment = SegmentFile(local, self._plan.container, self._formats, index, first)
        self._current = segment
        if segment.init != self._init:
            self._init = segment.init
            self._inits += 1
            # On the disk before any media that needs it: after a crash the last one is that of the segment
            # which was being written.
            init = segment_spool.init(self._folder, self._inits - 1)
            replace(init, segment.init)
            self._on_init(init, self._init_uri())
        early, self._early = self._early, []
        for packet in early:
            segment.write(packet)

    def _end_segment(self, next_start_ns: int | None, *, ended: bool) -> bool:
        """True: nothing came for so long that the segment ends before the next begins."""
        segment, self._current = self._current, None
        if segment is None:
            return False
        end_ns = segment.end_ns if next_start_ns is None else next_start_ns
        longest_ns = segment.start_ns + self._promise.target_s * NS
        leaps = playlist.rounded_s(end_ns - segment.start_ns) > self._promise.target_s
        try:
            segment.close()
        finally:
            # What is on the disk counts, whether or not it could be completed.
            if segment.size_bytes:
                self._finish_segment(segment, longest_ns if leaps else end_ns, ended=ended)
        return leaps

    def _finish_segment(self, segment: SegmentFile, end_ns: int, *, ended: bool) -> None:
        started_at_ns = self._started_at_ns + segment.start_ns
        uri = naming.segment_file(
            self._names.prefix,
            segment.index,
            started_at_ns,
            self._plan.timestamp_suffix,
            f".{self._plan.container.value}",
        )
        entry = playlist.Segment(
            uri, end_ns - segment.start_ns, started_at_ns, self._is_discontinuous, self._init_uri()
        )
        self._finished.add(entry)
        self._finished_bytes += segment.size_bytes
        self.segment_count += 1
        try:
            self._write_local_playlist(ended)
        finally:
            # On a full disk too: storing it is what makes room.
            self._on_segment(Finished(segment.path, uri, entry, segment.size_bytes))

    def _init_uri(self) -> str:
        return naming.init_file(self._names.prefix, self._inits - 1) if self._inits else ""

    def _write_local_playlist(self, ended: bool) -> None:
        """What a recovery reads after a crash: every segment made, stored or not."""
        text = self._finished.text(playlist.Kind.FULL, ended=ended)
        replace(self._folder / segment_spool.MADE, segment_spool.made(text, self._finished_bytes))


def _write(local: Path, listing: playlist.Listing, kind: playlist.Kind, *, ended: bool) -> None:
    replace(local, listing.text(kind, ended=ended))
