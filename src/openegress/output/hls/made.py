"""Lists the complete segments of an HLS recording on the local disk, for a recovery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openegress.core import plan
from openegress.output.hls import layout, playlist
from openegress.output.hls.segment_file import SegmentFile
from openegress.output.spool_file import replace
from openegress.request import naming


@dataclass(frozen=True, slots=True)
class MadeSegment:
    local: Path
    uri: str
    """URI relative to the playlist."""
    entry: playlist.Segment
    size_bytes: int


class MadeSegments:
    """The segments that were made. Confined to the writer's thread, except for its numbers."""

    def __init__(
        self,
        folder: Path,
        prefix: str,
        output: plan.SegmentOutput,
        limits: playlist.PlaylistLimits,
        started_at_ns: int,
        on_segment: Callable[[MadeSegment], None],
    ) -> None:
        """`folder`: the output's folder in the spool. `prefix`: prefix of the segments' names in the storage.
        `started_at_ns`: unix ns of media time zero."""
        self._folder = folder
        self._prefix = prefix
        self._plan = output
        self._started_at_ns = started_at_ns
        self._on_segment = on_segment
        self._listing = playlist.Listing(limits)
        self.count = 0
        self.size_bytes = 0

    def go_on(self, entries: Sequence[playlist.Segment], size_bytes: int) -> None:
        """Continues the segments that another process has made. Raises EgressError when the disk refuses the
        list."""
        for entry in entries:
            self._listing.add(entry)
        self.count, self.size_bytes = len(entries), size_bytes
        if entries:
            self._write_list(ended=False)

    def add(
        self, segment: SegmentFile, end_ns: int, *, is_discontinuous: bool, init_uri: str, ended: bool
    ) -> None:
        """Adds a complete segment. `ended`: it is the last one. Raises EgressError when the disk refuses the
        list."""
        started_at_ns = self._began_at_ns(segment)
        uri = naming.segment_file(
            self._prefix,
            segment.index,
            started_at_ns,
            self._plan.timestamp_suffix,
            f".{self._plan.container.value}",
        )
        entry = playlist.Segment(uri, end_ns - segment.start_ns, started_at_ns, is_discontinuous, init_uri)
        self._listing.add(entry)
        self.size_bytes += segment.size_bytes
        self.count += 1
        try:
            self._write_list(ended)
        finally:
            # On a full disk too: storing it makes room.
            self._on_segment(MadeSegment(segment.path, uri, entry, segment.size_bytes))

    def note_break(self, segment: SegmentFile) -> None:
        """Notes that `segment` has begun and does not continue the previous one, which a recovery could not
        know. Raises EgressError when the disk refuses."""
        self._write_list(ended=False, begun_at_ns=self._began_at_ns(segment))

    def _began_at_ns(self, segment: SegmentFile) -> int:
        return self._started_at_ns + segment.start_ns + segment.paused_ns

    def _write_list(self, ended: bool, begun_at_ns: int = 0) -> None:
        """Writes the list that a recovery reads after a crash: every segment made, stored or not."""
        text = self._listing.text(playlist.PlaylistKind.FULL, ended=ended)
        replace(self._folder / layout.MADE, layout.made(text, self.size_bytes, begun_at_ns))
