"""Writes one media segment: MPEG-TS, or fragments of MP4 that need an initialisation segment."""

from collections.abc import Sequence
from pathlib import Path

from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.marker import Marker
from openegress.media import Packet, StreamFormat
from openegress.media.event_message import event_message
from openegress.media.fragments import OFFSET_NS, FragmentWriter, init_segment
from openegress.media.interleave import end_ns
from openegress.media.muxer import Muxer
from openegress.output.spool_file import SpoolFile, disk_error

_TS_OPTIONS = {
    # Each segment has a multiplexer of its own, whose continuity counters start again.
    "mpegts_flags": "initial_discontinuity",
    "flush_packets": "1",
    "avoid_negative_ts": "disabled",
}

_FRAGMENTS_EACH = 1000
"""Number of fragment numbers reserved for each segment."""


class SegmentFile:
    """A segment from its first packet to its last. Confined to the writer's thread; raises EgressError."""

    def __init__(
        self,
        path: Path,
        container: Container,
        formats: Sequence[StreamFormat],
        index: int,
        first: Packet,
    ) -> None:
        self.path = path
        self.index = index
        self.start_ns = max(0, first.pts_ns)
        """Start on the timeline."""
        self.paused_ns = first.paused_ns
        """Length of the pauses until the segment's end so far, which are not on the timeline."""
        self.end_ns = self.start_ns
        """End of the last written frame."""
        self.init = b""
        """The initialisation segment of fMP4, the same for every segment of the same formats."""
        self._container = container
        self._file = SpoolFile(path)
        try:
            self._muxer = self._muxer_for(formats)
            self._muxer.open()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def write(self, packet: Packet) -> None:
        try:
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self.end_ns = max(self.end_ns, end_ns(packet))

    def mark(self, marker: Marker) -> None:
        """Puts a marker among the current media, if the container has a place for it. A moment before the
        segment is moved to its beginning."""
        if isinstance(self._muxer, FragmentWriter):
            at_ns = max(marker.at_ns, self.start_ns)
            self._muxer.put_before(event_message(marker, at_ns + OFFSET_NS))

    def flush(self) -> None:
        """Writes the media that waits in memory."""
        try:
            self._muxer.flush()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error

    def close(self) -> None:
        try:
            self._muxer.close()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        finally:
            self._file.seal()
            self._muxer.abandon()
            self._file.release()

    def _muxer_for(self, formats: Sequence[StreamFormat]) -> Muxer | FragmentWriter:
        """Returns a muxer. Times are OFFSET_NS late in every segment: a time before media time zero, as
        encoders produce it, would make FFmpeg shift the first segment only."""
        if self._container is not Container.FMP4:
            return Muxer(self._file, self._container, formats, _TS_OPTIONS, offset_ns=OFFSET_NS)
        self.init = init_segment(formats)
        return FragmentWriter(self._file.write, formats, first=1 + self.index * _FRAGMENTS_EACH)

    def _explain(self, error: FFmpegError | OSError) -> EgressError:
        if self._file.error is not None:
            return disk_error(self._file.error, self.path)
        return internal(f"the {self._container.value} muxer failed: {error}", Phase.RECORDING)
