"""Records HLS: segments cut on key frames, a complete playlist and a live one, stored while they are made."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

from openegress.core import plan
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import SegmentsUpdate
from openegress.core.marker import Marker
from openegress.media import Packet
from openegress.media.muxer import check_fit
from openegress.output import Emit, Opening
from openegress.output.content_types import content_type
from openegress.output.disk_thread import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S
from openegress.output.failure import BackupReport, FailureReport
from openegress.output.hls.init_segments import InitSegments
from openegress.output.hls.made import MadeSegment, MadeSegments
from openegress.output.hls.playlist import PlaylistLimits
from openegress.output.hls.playlist_publisher import PlaylistPublisher
from openegress.output.hls.recover import find_left, left_bytes
from openegress.output.hls.segment_writer import SegmentWriter
from openegress.output.manifest import FileRecord, PlaylistRecord, Records
from openegress.output.spool_file import disk_error, folder
from openegress.output.uploads import OrderedUploads, Upload
from openegress.output.writer import QueuedWriter
from openegress.request.naming import SegmentNames
from openegress.request.output_names import segment_names
from openegress.storage import backed_up
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Stored, Uploader

_PUBLISH_EVERY = 5
"""Number of segments after which the playlists are stored although more segments wait."""


class HlsRecorder:
    """A segmented recording."""

    def __init__(self, output: plan.SegmentOutput, index: int, *, emit: Emit, uploader: Uploader) -> None:
        """Call it in the event loop, in which the uploads run."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._uploader = uploader
        self._failures = FailureReport(index, emit)
        self._backup = BackupReport(index, emit)
        self._uploads = OrderedUploads(uploader)
        self._opening: Opening | None = None
        self._names = SegmentNames("", "", "", "")
        self._made: MadeSegments | None = None
        self._segments: SegmentWriter | None = None
        self._writer: QueuedWriter | None = None
        self._playlists: PlaylistPublisher | None = None
        self._stored: list[tuple[MadeSegment, Stored | None]] = []
        """The stored segments; None: unknown, as a process that died has stored it."""
        self._ended_at_ns = 0

    def open(self, opening: Opening) -> None:
        """Starts recording. Raises EgressError when the disk refuses, or the container does not take the
        codecs."""
        check_fit(self._plan.container, opening.formats)
        self._opening = opening
        where = folder(opening.spool, f"segments-{self._index}")
        names = self._names = segment_names(self._plan, opening.name_values)
        limits = PlaylistLimits.of(
            self._plan.segment_s, passed_through=any(f.is_passed_through for f in opening.formats)
        )
        self._made = MadeSegments(
            where, names.prefix, self._plan, limits, opening.started_at_ns, self._on_segment
        )
        inits = InitSegments(where, names.prefix, self._on_init)
        self._segments = SegmentWriter(
            where,
            self._plan.container,
            self._plan.segment_s,
            opening,
            limits,
            inits,
            self._made,
        )
        name = f"segment output {names.playlist}"
        self._writer = QueuedWriter(name, self._segments, self._failures.report)
        self._playlists = PlaylistPublisher(
            f"playlists of {name}", where, names, limits, self._uploader, self._backup
        )
        if opening.goes_on_at_ns:
            self._go_on(where, opening, inits)
        self._writer.start(OPEN_TIMEOUT_S)
        self._update()

    def _go_on(self, where: Path, opening: Opening, inits: InitSegments) -> None:
        """Continues what another process has left: lists stored segments, and stores the others."""
        assert self._made is not None and self._playlists is not None
        try:
            left = find_left(where, self._plan, self._names.prefix, opening.started_at_ns)
            self._made.go_on([each.entry for each in left], left_bytes(where, left))
            inits.go_on()
            for marker in opening.markers:
                if marker.at_ns < opening.goes_on_at_ns:
                    self._playlists.mark(marker)  # its segment is complete
                else:
                    self.mark(marker)
            for each in left:
                is_here = each.local.exists()
                size_bytes = each.local.stat().st_size if is_here else 0
                done = MadeSegment(each.local, each.entry.uri, each.entry, size_bytes)
                if is_here:
                    then = functools.partial(self._after_segment, done)
                    self._upload(done.local, done.uri, then, late=opening.late)
                else:
                    self._stored.append((done, None))
                    self._playlists.add(done.entry)
        except OSError as error:
            raise disk_error(error, where) from error

    async def _locate_before(self) -> None:
        """Finds where an earlier process has stored the segments. Raises EgressError."""
        on_backup: frozenset[str] | None = None
        for number, (done, stored) in enumerate(self._stored):
            if stored is None:
                if on_backup is None:
                    on_backup = await asyncio.to_thread(backed_up.names, done.local.parent)
                path = self._names.directory + done.uri
                located = await self._uploader.locate(path, on_backup=done.local.name in on_backup)
                self._stored[number] = done, located

    def write(self, packet: Packet) -> None:
        if self._writer is not None:
            self._writer.put(packet)

    def mark(self, marker: Marker) -> None:
        if self._playlists is not None and self._segments is not None:
            self._playlists.mark(marker)
            self._segments.mark(marker)

    async def finish(self, ended_at_ns: int) -> None:
        """Closes the last segment, and stores the remaining segments and the playlists with their end
        mark."""
        if self._writer is None or self._playlists is None:
            return
        try:
            await self._writer.finish(CLOSE_TIMEOUT_S)
        except EgressError as error:
            self._failures.report(error)
        if self._writer.is_over:
            await self._store(ended_at_ns)
        else:
            # Waiting segments would be read from the hanging disk, which would block updates of the journal
            # too.
            await self._uploads.abandon()
        self._playlists.close()
        await self._uploader.close()
        self._failures.raise_if_any()

    async def _store(self, ended_at_ns: int) -> None:
        self._ended_at_ns = ended_at_ns
        self._update()
        try:
            await self._uploads.finish()
            await self._locate_before()
            if self._stored:
                await self._publish(ended=True)
            else:
                self._failures.report(internal("no frame reached the segments", Phase.RECORDING))
        except EgressError as error:
            self._failures.report(error)
        self._update()

    def size_bytes(self) -> int:
        return self._segments.size_bytes if self._segments else 0

    def waiting_uploads(self) -> int:
        return self._uploads.pending

    def records(self) -> Records:
        """Returns what the manifest lists; call it after finish()."""
        segments = tuple(
            FileRecord(self._names.directory + done.uri, stored.location, stored.presign_error)
            for done, stored in self._stored
            if stored is not None
        )
        location = self._playlists.location(self._names.playlist) if self._playlists else ""
        return Records(playlists=(PlaylistRecord(location, segments),)) if segments else Records()

    def is_settled(self) -> bool:
        """Whether segments and playlists are stored, or there are none. False if a stuck disk may still be
        writing some."""
        if self._made is None or self._writer is None or self._playlists is None:
            return True
        is_all_stored = self._writer.is_over and self._made.count == len(self._stored)
        return is_all_stored and (self._playlists.is_complete or not self._stored)

    async def written(self) -> None:
        """Returns when every packet so far has been written to its segment."""
        if self._writer is not None:
            await self._writer.written()

    async def stored(self) -> None:
        """Returns when every segment made so far is stored, or was tried."""
        await self._uploads.settled()

    # --- from the writer's thread

    def _on_init(self, local: Path, uri: str) -> None:
        # It stays on the disk: without it, a segment that a dead process leaves unfinished cannot be read.
        self._upload(local, uri, self._after_init, keep_local=True)

    def _on_segment(self, done: MadeSegment) -> None:
        self._upload(done.local, done.uri, functools.partial(self._after_segment, done))
        self._update()

    def _upload(
        self,
        local: Path,
        uri: str,
        then: Callable[[Stored], Awaitable[None]],
        *,
        keep_local: bool = False,
        late: LateUploads | None = None,
    ) -> None:
        assert self._opening is not None
        kind = content_type(self._plan.container, self._opening.formats)
        self._uploads.add(Upload(local, self._names.directory + uri, kind, then, keep_local, late))

    # --- in the event loop

    async def _after_init(self, stored: Stored) -> None:
        self._backup.note(stored)

    async def _after_segment(self, done: MadeSegment, stored: Stored) -> None:
        assert self._playlists is not None
        self._backup.note(stored)
        self._stored.append((done, stored))
        self._playlists.add(done.entry)
        # While other segments wait for their upload, the playlists may be a few segments late.
        if not self._ended_at_ns and (not self._uploads.pending or len(self._stored) % _PUBLISH_EVERY == 0):
            await self._publish(ended=False)

    async def _publish(self, *, ended: bool) -> None:
        assert self._playlists is not None
        await self._playlists.publish(ended=ended)
        self._update()

    def _update(self) -> None:
        made, segments, playlists = self._made, self._segments, self._playlists
        assert made is not None and segments is not None and self._opening is not None
        names = self._names
        self._emit(
            SegmentsUpdate(
                output=self._index,
                playlist_name=names.directory + names.playlist,
                live_playlist_name=names.directory + names.live_playlist if names.live_playlist else "",
                playlist_location=playlists.location(names.playlist) if playlists else "",
                live_playlist_location=playlists.location(names.live_playlist) if playlists else "",
                segment_count=made.count,
                started_at_ns=self._opening.started_at_ns,
                ended_at_ns=self._ended_at_ns,
                duration_ns=segments.media_end_ns,
                size_bytes=segments.size_bytes,
            )
        )
