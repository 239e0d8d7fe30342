"""Writes packets into segments, and decides where each begins and ends, and in which format."""

from collections import deque
from pathlib import Path

from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import EgressError
from openegress.core.marker import Marker
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.interleave import Interleaver
from openegress.media.muxer import MAX_DELAY_NS
from openegress.media.passthrough import FormatChanges, renewed
from openegress.output import Opening
from openegress.output.hls import layout, playlist
from openegress.output.hls.cutter import Cutter
from openegress.output.hls.init_segments import InitSegments
from openegress.output.hls.made import MadeSegments
from openegress.output.hls.segment_file import SegmentFile

_SELDOM_NS = S // 2
"""How long a packet waits for the other track if nothing is encoded here. Tracks arrive in step, or one does
not arrive at all, or pictures come only when they change. Waiting packets are lost in a kill."""


class SegmentWriter:
    """The job (output.writer.Writing) of writing segments."""

    def __init__(
        self,
        folder: Path,
        container: Container,
        segment_s: int,
        opening: Opening,
        limits: playlist.PlaylistLimits,
        inits: InitSegments,
        made: MadeSegments,
    ) -> None:
        """`folder`: the output's folder in the spool."""
        self._folder = folder
        self._container = container
        self._formats = opening.formats
        self._limits = limits
        self._inits = inits
        self._made = made
        kinds = [f.kind for f in opening.formats]
        is_seldom = any(f.is_passed_through or f.has_variable_rate for f in opening.formats)
        self._interleaver = Interleaver(kinds, _SELDOM_NS if is_seldom else MAX_DELAY_NS)
        self._cutter = Cutter(
            segment_s * S,
            has_video=MediaKind.VIDEO in kinds,
            limit_ns=limits.limit_ns,
            keyless=not limits.independent,
        )
        self._changes = FormatChanges(opening.formats)
        self._early: list[Packet] = []
        """Sound that came before the first key frame."""
        self._current: SegmentFile | None = None
        self._is_discontinuous = False
        """Whether formats changed, time jumped, or a pause ended at the start of the current segment."""
        self._paused_ns = 0
        self.media_end_ns = opening.goes_on_at_ns
        self._marked: deque[Marker] = deque()
        """Markers that media has not reached yet."""

    def mark(self, marker: Marker) -> None:
        """Adds a marker. Call it from any thread."""
        self._marked.append(marker)

    @property
    def size_bytes(self) -> int:
        return self._made.size_bytes + (self._current.size_bytes if self._current else 0)

    def open(self) -> None:
        """Does nothing: the first packet opens a segment."""

    def write(self, packet: Packet) -> None:
        for each in self._interleaver.push(packet):
            self._take(each)

    def rest(self) -> None:
        for each in self._interleaver.flush():
            self._take(each)
        if self._current is not None:
            self._current.flush()

    def close(self) -> None:
        for each in self._interleaver.flush():
            self._take(each)
        self._end_segment(None, ended=True)

    def abort(self, error: EgressError) -> None:
        try:
            self._end_segment(None, ended=True)
        except EgressError as again:
            error.add_note(f"and while closing: {again.message}")

    def _take(self, packet: Packet) -> None:
        is_first = not self._changes.is_known
        is_new_format = self._changes.begin_with(packet)
        if is_new_format or (is_first and self._changes.is_known):
            # The sender may have sent another layer since the outputs were opened.
            self._formats = renewed(self._formats, packet)
        is_resumed = packet.paused_ns > self._paused_ns
        if self._cutter.begins(packet, breaks=is_new_format or is_resumed):
            leaps = self._end_segment(packet.pts_ns, ended=False)
            self._is_discontinuous = is_new_format or leaps or is_resumed
            self._paused_ns = packet.paused_ns
            self._begin_segment(packet)
        if self._current is None:
            self._early.append(packet)
            return
        self._current.write(packet)
        while self._marked and self._marked[0].at_ns <= packet.pts_ns:
            self._current.mark(self._marked.popleft())
        self.media_end_ns = max(self.media_end_ns, self._current.end_ns)

    def _begin_segment(self, first: Packet) -> None:
        index = self._made.count
        local = layout.segment(self._folder, index, f".{self._container.value}")
        self._current = segment = SegmentFile(local, self._container, self._formats, index, first)
        self._inits.use(segment.init)
        if self._is_discontinuous:
            self._made.note_break(segment)
        early, self._early = self._early, []
        for packet in early:
            segment.write(packet)

    def _end_segment(self, next_start_ns: int | None, *, ended: bool) -> bool:
        """Ends the current segment. Returns True if nothing arrived for so long that it ends before the next
        one begins."""
        segment, self._current = self._current, None
        if segment is None:
            return False
        end_ns = segment.end_ns if next_start_ns is None else next_start_ns
        longest_ns = segment.start_ns + self._limits.target_s * S
        leaps = playlist.rounded_s(end_ns - segment.start_ns) > self._limits.target_s
        try:
            segment.close()
        finally:
            # Everything on the disk counts, whether or not it could be completed.
            if segment.size_bytes:
                self._made.add(
                    segment,
                    longest_ns if leaps else end_ns,
                    is_discontinuous=self._is_discontinuous,
                    init_uri=self._inits.uri,
                    ended=ended,
                )
        return leaps
