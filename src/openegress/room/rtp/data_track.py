"""Parses packets of LiveKit's data tracks (livekit-datatrack, packet-v0), and joins them to frames. Pure.

    0                   1                   2                   3
    |V(3)  |S|F|X|     reserved (10)  |        track handle        |
    |        sequence number          |        frame number        |
    |                          timestamp                           |

If X is set, extensions follow. Their first 16 bits are the number of their 32-bit words, less one; the first
word includes the number itself.
"""

import struct
from dataclasses import dataclass, field

from openegress.core.recent import Recent

MAX_FRAME_BYTES = 256 * 1024
"""The same limit as for a message of a data channel: a stranger decides how many packets a frame has."""
MAX_OPEN = 64
"""Tracks whose frames are gathered at a time."""

_HEADER = struct.Struct("!BBHHHI")
_START, _FINAL, _EXTENDED = 0x10, 0x08, 0x04


@dataclass(frozen=True, slots=True)
class DataTrackPacket:
    handle: int
    sequence: int
    frame: int
    is_start: bool
    is_final: bool
    payload: bytes


def parse(data: bytes) -> DataTrackPacket | None:
    """Parses a packet. None: it is not such a packet, or has an unknown version."""
    if len(data) < _HEADER.size:
        return None
    flags, _, handle, sequence, frame, _ = _HEADER.unpack_from(data)
    begin = _HEADER.size
    if flags >> 5 or not handle:
        return None
    if flags & _EXTENDED:
        if len(data) < begin + 2:
            return None
        begin += 4 * (int.from_bytes(data[begin : begin + 2], "big") + 1)
        if begin > len(data):
            return None
    return DataTrackPacket(handle, sequence, frame, bool(flags & _START), bool(flags & _FINAL), data[begin:])


@dataclass(slots=True)
class _Gathering:
    packet: DataTrackPacket
    """The last packet so far."""
    parts: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class DataFrames:
    """Gathers frames from packets. A frame that misses a packet is dropped, because none is sent again."""

    def __init__(self) -> None:
        self._open: Recent[int, _Gathering] = Recent(MAX_OPEN)
        """Incomplete frames, by the handle of their track."""

    def take(self, packet: DataTrackPacket) -> bytes | None:
        """Takes a packet. Returns a complete frame once its last packet has arrived."""
        if packet.is_start:
            self._open[packet.handle] = _Gathering(packet)
        gathering = self._open.get(packet.handle)
        if gathering is None or not (packet.is_start or _follows(gathering.packet, packet)):
            self._open.pop(packet.handle, None)
            return None
        gathering.packet = packet
        gathering.parts.append(packet.payload)
        gathering.size_bytes += len(packet.payload)
        if gathering.size_bytes > MAX_FRAME_BYTES:
            del self._open[packet.handle]
            return None
        if not packet.is_final:
            return None
        del self._open[packet.handle]
        return b"".join(gathering.parts)


def _follows(before: DataTrackPacket, packet: DataTrackPacket) -> bool:
    return packet.frame == before.frame and packet.sequence == (before.sequence + 1) & 0xFFFF
