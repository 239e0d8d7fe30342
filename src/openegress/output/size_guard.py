"""Keeps an output below a size: asks for its end in time, and lets nothing pass that would not fit. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import MediaKind
from openegress.core.units import MS, S
from openegress.media import Packet, PacketSink

HEADER_BYTES = 4096
"""Overhead of most containers, and of the first playlist entries, before and after the media."""
MATROSKA_HEADER_BYTES = 256 * 1024
"""The same for Matroska, with room for further tracks (media.matroska_head)."""
MCAP_HEADER_BYTES = 64 * 1024
"""The same for MCAP: schemas and channels, twice, enough for 60 tracks."""
SAMPLE_BYTES = 18
"""Largest overhead of a container for each packet: 15 in fragments of MP4 and in WebM, 5 in a plain MP4 and
in OGG, measured over half a minute of sound with and without a picture."""
TS_PACKET_BYTES, TS_PAYLOAD_BYTES = 188, 184
PES_BYTES = 26
"""Size of the header of a PES packet with both time stamps, and an adaptation field with a clock
reference."""
WINDOW_NS = S
"""Length of the window in which the rate is measured."""
TAIL_NS = 250 * MS
"""Time from the report that the size is reached to the last packet that the encoder still produces."""

LONGEST_LAG_NS = 2 * S
"""Largest lag of one stream behind another; a larger one means a muted track."""


@dataclass(frozen=True, slots=True)
class SizeLimit:
    max_bytes: int
    on_reached: Callable[[], None]
    """Called from any thread, once for each output."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The overhead of an output in addition to the media itself."""

    packet_bytes: Callable[[int], int]
    """Returns the size in the output of a packet of that many bytes, itself included."""
    bytes_per_s: int = 0
    """Overhead per second, whatever arrives."""
    head_bytes: int = HEADER_BYTES


def in_ts(data_bytes: int) -> int:
    """Returns the size in MPEG-TS, whose packets are padded (ISO/IEC 13818-1)."""
    return -(-(data_bytes + PES_BYTES) // TS_PAYLOAD_BYTES) * TS_PACKET_BYTES


IN_FILE = Packing(lambda data_bytes: data_bytes + SAMPLE_BYTES)
"""Overhead in MP4, its fragments, WebM, OGG and MP3."""
IN_MATROSKA = Packing(IN_FILE.packet_bytes, head_bytes=MATROSKA_HEADER_BYTES)
IN_MCAP = Packing(
    # Message, its Protobuf and its index, and the indexes of its chunk.
    lambda data_bytes: data_bytes + 112,
    bytes_per_s=512,
    head_bytes=MCAP_HEADER_BYTES,
)
"""Overhead in MCAP, measured with a track that sends sound and seven that send pictures."""
IN_TS = Packing(in_ts, 24 * TS_PACKET_BYTES)
"""Overhead in MPEG-TS. FFmpeg's muxer repeats PAT and PMT ten times a second, SDT twice, and all of them at
the beginning of each segment."""


class SizeGuard:
    """A PacketSink in front of that of an output. One thread writes to it; any thread may call change()."""

    def __init__(self, sink: PacketSink, limit: SizeLimit | None, packing: Packing = IN_FILE) -> None:
        """`limit` is reported early enough for everything until the end of the recording to fit."""
        self._sink = sink
        self._limit = limit
        self._packing = packing
        self._size_bytes = packing.head_bytes
        self._ends_ns: dict[MediaKind, int] = {}
        """Position of each stream."""
        self._window_ns = 0
        """Start of the window in which bytes are counted."""
        self._window_bytes = 0
        self._rate = 0.0
        """Rate in bytes per ns, measured in the last window."""
        self._cut_ns: int | None = None
        """Time from which nothing is written."""

    def change(self, limit: SizeLimit | None) -> None:
        """Changes the limit; None: there is none. One that is already reached is reported at once, as no
        packet comes to find it during a pause; a packet may report it again."""
        self._limit = limit
        if limit and self._ends_ns and self._size_bytes >= limit.max_bytes:
            limit.on_reached()

    def go_on(self, size_bytes: int, at_ns: int) -> None:
        """Continues what another process has written, up to `at_ns`."""
        self._size_bytes = max(self._size_bytes, size_bytes)
        self._window_ns = at_ns

    def write(self, packet: Packet) -> None:
        at_ns, packet_bytes = packet.pts_ns, self._packing.packet_bytes(len(packet.data))
        if self._cut_ns is not None and at_ns >= self._cut_ns:
            return
        limit = self._limit
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
        """Returns the size of the output once it reaches `at_ns`."""
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
        """Returns the size of what other streams still need to catch up with the foremost one, and of what is
        on its way."""
        lag_ns = min(LONGEST_LAG_NS, max(self._ends_ns.values()) - min(self._ends_ns.values()))
        rate = max(self._rate, self._window_bytes / WINDOW_NS) + self._packing.bytes_per_s / S
        return rate * (lag_ns + TAIL_NS)
