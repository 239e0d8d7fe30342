"""One media segment while it is written: MPEG-TS, or fragments of MP4 that need an initialisation part."""

import io
from collections.abc import Sequence
from pathlib import Path

from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.errors import EgressError, Phase, internal
from openegress.media import NS, Packet, StreamFormat
from openegress.media.interleave import end_ns
from openegress.media.mp4 import name_hvc1
from openegress.media.muxer import Muxer
from openegress.output.spool import SpoolFile, disk_error

OFFSET_NS = 1 * NS
"""Added to every time of every segment: the first frames' DTS lie before media time zero, and MPEG-TS and
fMP4 know no negative times. FFmpeg would shift the first segment alone."""

_OPTIONS: dict[Container, dict[str, str]] = {
    Container.TS: {
        # Each segment has a multiplexer of its own, whose continuity counters start anew.
        "mpegts_flags": "initial_discontinuity",
        "flush_packets": "1",
        "avoid_negative_ts": "disabled",
    },
    Container.FMP4: {
        "movflags": "empty_moov+default_base_moof+frag_discont+skip_trailer",
        "frag_duration": "1000000",
        "use_editlist": "0",
        "flush_packets": "1",
        "avoid_negative_ts": "disabled",
    },
}


class _SplitFile:
    """Takes the initialisation part, then the media, whose offsets start at 0 (media.muxer.ByteSink)."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._header: bytearray | None = bytearray()
        self._header_bytes = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def end_header(self) -> bytes:
        header = bytes(self._header or b"")
        self._header_bytes = len(header)
        self._header = None
        return header

    def write(self, data: bytes) -> int:
        if self._header is None:
            return self._file.write(data)
        self._header += data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._header is not None or whence != 0 or offset < self._header_bytes:
            raise OSError("a media segment is written from front to end")
        return self._file.seek(offset - self._header_bytes) + self._header_bytes

    def tell(self) -> int:
        return len(self._header) if self._header is not None else self._file.tell() + self._header_bytes


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
        """On the timeline."""
        self.end_ns = self.start_ns
        """Of the last frame written."""
        self.init = b""
        """fMP4: the initialisation part, the same for every segment of the same formats."""
        self._container = container
        self._file = SpoolFile(path)
        self._split = _SplitFile(self._file) if container is Container.FMP4 else None
        options = dict(_OPTIONS[container])
        if self._split is not None:
            options["fragment_index"] = str(1 + index * 1000)
        self._muxer = Muxer(self._split or self._file, container, formats, options, offset_ns=OFFSET_NS)
        try:
            self._muxer.open()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        if self._split is not None:
            init = io.BytesIO(self._split.end_header())
            name_hvc1(init, len(init.getbuffer()))
            self.init = init.getvalue()

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def write(self, packet: Packet) -> None:
        try:
            self._muxer.write(packet)
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        self.end_ns = max(self.end_ns, end_ns(packet))

    def close(self) -> None:
        try:
            self._muxer.close()
        except (FFmpegError, OSError) as error:
            raise self._explain(error) from error
        finally:
            self._file.seal()
            self._muxer.abandon()
            self._file.release()

    def _explain(self, error: FFmpegError | OSError) -> EgressError:
        if self._file.error is not None:
            return disk_error(self._file.error, self.path)
        return internal(f"the {self._container.value} muxer failed: {error}", Phase.RECORDING)
