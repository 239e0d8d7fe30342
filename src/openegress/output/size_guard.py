"""Keeps an output below a size: asks for the end in time, and lets nothing pass that would not fit. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import MediaKind
from openegress.core.units import MS, S
from openegress.media import Packet, PacketSink

HEADER_BYTES = 4096
"""Of most containers, and of the first playlist entries: what a file has before and after its media."""
MATROSKA_HEADER_BYTES = 256 * 1024
"""With room for tracks to come (media.matroska_head)."""
MCAP_HEADER_BYTES = 64 * 1024
"""Schemas and channels, twice: enough for 60 tracks."""
SAMPLE_BYTES = 18
"""What a container has for each packet, at most: 15 in fragments of MP4 and in WebM, 5 in a plain MP4 and in
OGG, measured over half a minute of sound with and without a picture."""
TS_PACKET_BYTES, TS_PAYLOAD_BYTES = 188, 184
PES_BYTES = 26
"""Header of a PES packet with both time stamps, and an adaptation field with a clock reference."""
WINDOW_NS = S
"""Over which the rate is measured."""
TAIL_NS = 250 * MS
"""From the word that the size is reached to the last packet that the encoder then still gives."""

LONGEST_LAG_NS = 2 * S
"""Of one stream behind another; more is a track that is muted."""


@dataclass(frozen=True, slots=True)
class SizeLimit:
    max_bytes: int
    on_reached: Callable[[], None]
    """From any thread, once for each output."""


@dataclass(frozen=True, slots=True)
class Packing:
    """What an output takes beside the media itself."""

    packet_bytes: Callable[[int], int]
    """Of a packet of so many bytes, with those."""
    bytes_per_s: int = 0
    """Whatever comes."""
    head_bytes: int = HEADER_BYTES


def in_ts(data_bytes: int) -> int:
    """MPEG-TS packets (ISO/IEC 13818-1) are filled up."""
    return -(-(data_bytes + PES_BYTES) // TS_PAYLOAD_BYTES) * TS_PACKET_BYTES


IN_FILE = Packing(lambda data_bytes: data_bytes + SAMPLE_BYTES)
"""MP4, its fragments, WebM, OGG and MP3."""
IN_MATROSKA = Packing(IN_FILE.packet_bytes, head_bytes=MATROSKA_HEADER_BYTES)
IN_MCAP = Packing(
    # Message, its Protobuf and its index, and the indexes of its chunk.
    lambda data_bytes: data_bytes + 112,
    bytes_per_s=512,
    head_bytes=MCAP_HEADER_BYTES,
)
"""Measured with a track that sends sound and seven that send pictures."""
IN_TS = Packing(in_ts, 24 * TS_PACKET_BYTES)
"""FFmpeg's muxer repeats PAT and PMT ten times a second and SDT twice, and at each segment's beginning."""


class SizeGuard:
    """A PacketSink before that of an output. Written to from one thread; `limit` may be another at any time,
    and None for none."""

    def __init__(self, sink: PacketSink, limit: SizeLimit | None, packing: Packing = IN_FILE) -> None:
        """The limit is told as reached early enough that what comes until the end of the recording fits."""
        self._sink = sink
        self.limit = limit
        self._packing = packing
        self._size_bytes = packing.head_bytes
        self._ends_ns: dict[MediaKind, int] = {}
        """Where each stream has got to."""
        self._window_ns = 0
        """Where the window began in which bytes are counted now."""
        self._window_bytes = 0
        self._rate = 0.0
        """Bytes per ns, of the fuller of this window and the last."""
        self._cut_ns: int | None = None
        """From here on nothing is written."""

    def go_on(self, size_bytes: int, at_ns: int) -> None:
        """Behind what another process has written, up to this time."""
        self._size_bytes = max(self._size_bytes, size_bytes)
        self._window_ns = at_ns

    def write(self, packet: Packet) -> None:
        at_ns, packet_bytes = packet.pts_ns, self._packing.packet_bytes(len(packet.data))
        if self._cut_ns is not None and at_ns >= self._cut_ns:
            return
        limit = self.limit
        if limit and self._ends_ns and self._whole_bytes(at_ns) + packet_bytes > limit.max_bytes:
            self._cut(at_ns, limit)
            return
        self._size_bytes += packet_bytes
        self._ends_ns[packet.kind] = at_ns
        self._sink.write(packet)
        if self._cut_ns is None:
            self._measure(packet_bytes)
            if limit and self._whole_bytes(at_ns) + self._tail_bytes() >= limit.max_bytes:
                self._cut(max(self._ends_ns.values()) + 1, limit)

    def _whole_bytes(self, at_ns: int) -> float:
        """What the output takes when it has got to there."""
        return self._size_bytes + self._packing.bytes_per_s * max(at_ns, *self._ends_ns.values()) / S

    def _cut(self, at_ns: int, limit: SizeLimit) -> None:
        is_first = self._cut_ns is None
        self._cut_ns = at_ns
        if is_first:
            limit.on_reached()

    def _measure(self, packet_bytes: int) -> None:
        self._window_bytes += packet_bytes
        elapsed_ns = max(self._ends_ns.values()) - self._window_ns
        if elapsed_ns >= WINDOW_NS:
            self._rate = self._window_bytes / elapsed_ns
            self._window_ns += elapsed_ns
            self._window_bytes = 0

    def _tail_bytes(self) -> float:
        """What other streams have still to bring up to where the foremost is, and what is under way."""
        lag_ns = min(LONGEST_LAG_NS, max(self._ends_ns.values()) - min(self._ends_ns.values()))
        rate = max(self._rate, self._window_bytes / WINDOW_NS) + self._packing.bytes_per_s / S
        return rate * (lag_ns + TAIL_NS)
