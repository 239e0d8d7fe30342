"""Writes a WebM cluster by cluster (RFC 9559): each is complete by itself, and no track waits for another.

FFmpeg's muxers hold everything back while a VP8 or VP9 track is silent: an hour with the camera off would
keep an hour of sound in memory. So only FFmpeg's header is used; index and duration are added at the end.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import av

from openegress.core.codecs import AudioCodec, Container, MediaKind
from openegress.core.units import MS, S
from openegress.media import Packet, StreamFormat
from openegress.media.ebml import Element, element, elements, wide
from openegress.media.fragments import PRIMING_SAMPLES, sample
from openegress.media.muxer import FORMAT_NAME
from openegress.media.streams import add_stream

CLUSTER_NS = S // 2
"""Length of a cluster: the most flowing media that a kill may cost. Block times have 16 bits of milliseconds,
so a cluster may last for half a minute."""

_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK = b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3"
_VIDEO_PATH = (0x18538067, 0x1654AE6B, 0xAE, 0xE0)
"""Path to the picture size: Segment, Tracks, TrackEntry, Video."""
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xB0, 0xBA
_WIDE = 0x4000
"""Placeholder for a picture's width and height. FFmpeg writes a size in as few bytes as possible; two bytes
have room for any picture."""
_KEY = 0x80
_ONE_BYTE_TRACKS = 126
"""Highest track number that takes one byte in a block; others take two (RFC 8794 section 4)."""


@dataclass(frozen=True, slots=True)
class SimpleBlock:
    """A picture or sound packet on its way into a cluster."""

    track: int
    at_ms: int
    """Its time in the file."""
    order_ms: int
    """Its place in the order: this never decreases within a track, though the times of reordered pictures
    do."""
    is_key: bool
    data: bytes


def cluster(blocks: Sequence[SimpleBlock]) -> bytes:
    """Builds a cluster of one or more blocks that lie within half a minute (RFC 9559 section 5.1.3)."""
    start_ms = max(0, min(block.at_ms for block in blocks))
    parts = [element(_TIMESTAMP, start_ms.to_bytes(8, "big"))]
    for block in sorted(blocks, key=lambda each: each.order_ms):
        track = block.track
        head = bytes((0x80 | track,)) if track <= _ONE_BYTE_TRACKS else (0x4000 | track).to_bytes(2, "big")
        head += (block.at_ms - start_ms).to_bytes(2, "big", signed=True)
        parts.append(element(_SIMPLE_BLOCK, head + bytes((_KEY * block.is_key,)) + block.data))
    return wide(_CLUSTER, b"".join(parts))


class ClusterWriter:
    """Takes packets and passes clusters to `put`, each in one call. One writer belongs to one thread.
    Exceptions of `put` and `rewrite` come out of open(), write(), flush() and close(); FFmpegError out of
    open()."""

    def __init__(
        self,
        put: Callable[[bytes], object],
        formats: Sequence[StreamFormat],
        rewrite: Callable[[int, bytes], object] | None = None,
    ) -> None:
        """`rewrite` overwrites bytes at an offset. With it, the header states the actual size of the
        pictures, at first and after a larger layer, rather than the announced size."""
        self._put = put
        self._rewrite = rewrite
        self._size: PixelSize | None = None
        self._formats = tuple(formats)
        self._tracks = {f.kind: (number, f) for number, f in enumerate(formats, 1)}
        self._last_ms: dict[MediaKind, int] = {}
        self._blocks: list[SimpleBlock] = []

    def open(self) -> None:
        """Writes the header."""
        buffer = io.BytesIO()
        container = av.open(buffer, "w", format=FORMAT_NAME[Container.WEBM])
        passed = next((f for f in self._formats if f.is_passed_through), None)
        for f in self._formats:
            add_stream(container, replace(f, width=_WIDE, height=_WIDE) if f is passed else f)
        container.start_encoding()
        header = buffer.getvalue()
        container.close()
        if passed is not None:
            self._size = PixelSize(header)
            header = self._size.with_size(header, passed.width, passed.height)
        self._put(header)

    def write(self, packet: Packet) -> None:
        """Takes a packet, and first writes the previous cluster if it is long enough. Ignores packets of
        unknown streams."""
        if packet.kind not in self._tracks:
            return
        if packet.is_key and self._size is not None and self._rewrite is not None:
            for offset, data in self._size.corrections(*packet.picture_size):
                self._rewrite(offset, data)
        number, form = self._tracks[packet.kind]
        at_ms = max(0, (packet.pts_ns + _delay_ns(form) + MS // 2) // MS)
        # Two pictures of the same millisecond are moved apart by one.
        at_ms = max(at_ms, self._last_ms.get(packet.kind, -1) + (packet.kind is MediaKind.VIDEO))
        self._last_ms[packet.kind] = at_ms
        if self._blocks and abs(at_ms - self._blocks[0].at_ms) * MS >= CLUSTER_NS:
            self.flush()
        self._blocks.append(SimpleBlock(number, at_ms, at_ms, packet.is_key, sample(form, packet.data)))

    def flush(self) -> None:
        """Writes what has arrived as a cluster."""
        if not self._blocks:
            return
        blocks, self._blocks = self._blocks, []
        self._put(cluster(blocks))

    def close(self) -> None:
        """Writes what has arrived. There is no trailer."""
        self.flush()

    def abandon(self) -> None:
        """Stops without writing anything more."""
        self._blocks = []


class PixelSize:
    """The place where a header states its picture size (RFC 9559 sections 5.1.4.1.28.6 and 7), and the size
    it should state."""

    def __init__(self, header: bytes) -> None:
        self._places = [
            found
            for kind in (_PIXEL_WIDTH, _PIXEL_HEIGHT)
            if (found := _inside(header, 0, len(header), (*_VIDEO_PATH, kind))) is not None
        ]
        self._area = 0
        """Pixels of the key frame whose size the header states; 0: none yet."""

    def with_size(self, header: bytes, width: int, height: int) -> bytes:
        changed = bytearray(header)
        for offset, data in self._values(width, height):
            changed[offset : offset + len(data)] = data
        return bytes(changed)

    def corrections(self, width: int, height: int) -> list[tuple[int, bytes]]:
        """Returns what to write, and where, before a key frame of that size."""
        if width * height <= self._area:
            return []
        self._area = width * height
        return self._values(width, height)

    def _values(self, width: int, height: int) -> list[tuple[int, bytes]]:
        """Returns values to write, and where; empty if either value does not fit into its place."""
        values = list(zip(self._places, (width, height), strict=False))
        if len(values) < 2 or any(value >> 8 * (at.end - at.data) for at, value in values):
            return []
        return [(at.data, value.to_bytes(at.end - at.data, "big")) for at, value in values]


def _inside(header: bytes, start: int, end: int, path: Sequence[int]) -> Element | None:
    """The first element at that path."""
    kind, *rest = path
    for each in elements(header, start, end):
        if each.kind == kind:
            found = _inside(header, each.data, min(each.end, end), rest) if rest else each
            if found is not None:
                return found
    return None


def _delay_ns(form: StreamFormat) -> int:
    """Returns CodecDelay of Opus in FFmpeg's header, which a player subtracts from block times."""
    if form.codec is AudioCodec.OPUS:
        return PRIMING_SAMPLES[AudioCodec.OPUS] * S // 48_000
    return 0
