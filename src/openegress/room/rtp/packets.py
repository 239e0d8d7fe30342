"""Parses RTP packets (RFC 3550) and their retransmissions (RFC 4588). Pure."""

from struct import Struct
from typing import NamedTuple

HEADER = Struct("!BBHII")
HEADER_BYTES = 12
OVERTAKEN = -1
"""Stands for the arrival of a packet that came after one sent later, because it was lost and sent again, or
took another path. Its real arrival does not show when it should have come."""


class RtpPacket(NamedTuple):
    """An RTP packet. It is a named tuple, because one is made for each packet that arrives."""

    ssrc: int
    payload_type: int
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes
    """The payload without padding. It is empty in packets that only probe the bandwidth."""
    arrival_ns: int = OVERTAKEN
    """Monotonic; or OVERTAKEN."""


def parse(data: bytes, arrival_ns: int = OVERTAKEN) -> RtpPacket | None:
    """Parses a packet. None if `data` is not an RTP packet of version 2, or is shorter than its header
    says."""
    size = len(data)
    if size < HEADER_BYTES:
        return None
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first >> 6 != 2:
        return None
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if start + 4 > size:
            return None
        start += 4 + 4 * (data[start + 2] << 8 | data[start + 3])
    if first & 0x20:
        padding = data[-1]
        if not padding:
            return None
        size -= padding
    if start > size:
        return None
    return RtpPacket(ssrc, second & 0x7F, sequence, timestamp, second > 0x7F, data[start:size], arrival_ns)


def unwrap_rtx(packet: RtpPacket) -> RtpPacket | None:
    """The original packet of a retransmission, still with the retransmission's SSRC and payload type. None if
    it contains only padding."""
    payload = packet.payload
    if len(payload) < 2:
        return None
    return packet._replace(sequence=payload[0] << 8 | payload[1], payload=payload[2:])
