"""Opens the source of a clip: the file or the segments of an output, in the spool or in its storage."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from openegress.core.clip_plan import ClipPlan
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError, unimplemented
from openegress.core.plan import SegmentOutput
from openegress.core.span import RequestedSpan, shown_s
from openegress.media import Packet
from openegress.media.clip.cut import SEEK_BEFORE_NS
from openegress.media.clip.source import ClipPart, ClipSource
from openegress.media.clip.stitched import LocalBytes, Piece, Stitched
from openegress.media.fragments import OFFSET_NS
from openegress.output.clip.files import open_files
from openegress.output.clip.stored_objects import SpanSource, StoredObjects
from openegress.output.hls import layout
from openegress.output.hls.playlist import Segment
from openegress.output.hls.recover import parse_entries

_MAX_PLAYLIST_BYTES = 64 * 1024 * 1024


def open_recorded(plan: ClipPlan, stored: StoredObjects) -> SpanSource:
    """Opens the span of a plan. Blocking. Raises EgressError for a span that was not recorded, and for
    missing files."""
    files: list[int] = []
    try:
        if isinstance(plan.recorded, SegmentOutput):
            return _Segments(plan, plan.recorded, stored, files).open()
        return open_files(plan, stored, files)
    except BaseException:
        for fd in files:
            os.close(fd)
        raise


class _Segments:
    """The segments of an HLS output, in the spool and in the storage."""

    def __init__(
        self, plan: ClipPlan, output: SegmentOutput, stored: StoredObjects, files: list[int]
    ) -> None:
        self._plan = plan
        self._output = output
        self._stored = stored
        self._files = files
        self._directory = plan.playlist[: plan.playlist.rfind("/") + 1]
        self._text = ""
        """Text of the playlist."""

    def open(self) -> SpanSource:
        entries = parse_entries(self._listing())
        if not entries:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress has no complete segment yet")
        starts = _starts(entries)
        length_ns = starts[-1] + entries[-1].duration_ns
        span = RequestedSpan(self._plan.last_ns, self._plan.begin_ns, self._plan.end_ns).of(length_ns)
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
        return SpanSource((part,), span, opened.size(), self._files)

    def _pieces(self, entries: Sequence[Segment], chosen: Iterable[int]) -> list[Piece]:
        pieces: list[Piece] = []
        for n in chosen:
            if self._output.container is Container.FMP4 and not pieces:
                pieces.append(self._piece(entries[n].init, self._init_of(entries, n)))
            local = layout.segment(Path(self._plan.left_in), n, f".{self._output.container.value}")
            pieces.append(self._piece(entries[n].uri, local if self._plan.left_in else None))
        return pieces

    def _has_key(self, entries: Sequence[Segment], starts: Sequence[int], number: int, begin_ns: int) -> bool:
        """Whether the segment has a key frame before the span. A segment of a track that is recorded
        unchanged may have none at all."""
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
        """Returns how far the time in the segments is ahead of the playlist's, which players use: the first
        picture came late, or nothing came for a long time."""
        part = ClipPart(self._output.container, Stitched(pieces), late_ns=OFFSET_NS, begin_ns=begin_ns)
        source = ClipSource(part)
        try:
            firsts = _firsts(source)
        finally:
            source.close()
        if not firsts:
            return 0
        video = firsts.get(MediaKind.VIDEO)
        # A segment begins with a key frame, or with whatever came if there was none in time.
        begun = video if video is not None and video.is_key else min(firsts.values(), key=lambda p: p.pts_ns)
        # Players skip what an audio encoder puts before media time zero.
        return max(0, begun.pts_ns) - begin_ns

    def _listing(self) -> str:
        if self._plan.left_in:
            made = Path(self._plan.left_in) / layout.MADE
            self._text = made.read_text() if made.exists() else ""
            return self._text
        file = self._stored.bytes_of(self._plan.playlist)
        self._text = file.read_at(0, min(file.size(), _MAX_PLAYLIST_BYTES)).decode(errors="replace")
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
        """Opens a segment, from the spool while it is there."""
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
        """Raises EgressError if pictures change their format within the clip."""
        for before, each, start in zip(entries, entries[1:], starts[1:], strict=False):
            if each.init != before.init:
                raise unimplemented(
                    f"a clip of segments whose pictures change their size (they do at {shown_s(start)})"
                )


def _firsts(source: ClipSource) -> dict[MediaKind, Packet]:
    """Returns the first packet of each kind."""
    wanted = (source.video_codec is not None) + (source.audio_codec is not None)
    found: dict[MediaKind, Packet] = {}
    for packet in source.packets(0):
        found.setdefault(packet.kind, packet)
        if len(found) == wanted:
            break
    return found


def _starts(entries: Sequence[Segment]) -> list[int]:
    """Returns where each segment begins for players."""
    starts: list[int] = []
    at_ns = 0
    for each in entries:
        starts.append(at_ns)
        at_ns += each.duration_ns
    return starts
