"""RTCP (RFC 3550, RFC 4585): parses what a receiver reads, and writes what it sends. Pure."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NTP_UNIX_OFFSET_S = 2_208_988_800
"""Seconds from 1900, where NTP time starts, to 1970."""

SENDER_REPORT, RECEIVER_REPORT = 200, 201
TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK = 205, 206
GENERIC_NACK, PICTURE_LOSS = 1, 1

MAX_REPORT_BLOCKS = 31
MAX_NACK_ITEMS = 250
"""Limit that keeps a packet of requests at about 1 kB."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp_ns: int
    """Unix ns on the sender's clock."""
    rtp_timestamp: int
    """The same instant on the track's RTP clock, in 32 bits."""
    ntp_middle: int
    """The middle 32 bits of the NTP time, to be returned as LSR."""


@dataclass(frozen=True, slots=True)
class ReportBlock:
    ssrc: int
    fraction_lost: int
    """In units of 1/256."""
    packets_lost: int
    highest_sequence: int
    """Extended: cycles in the upper 16 bits."""
    jitter: int
    """In units of the RTP clock."""
    last_report: int
    """LSR: ntp_middle of the last sender report, 0 if there was none."""
    delay: int
    """DLSR: the time since that report, in units of 1/65536 s."""


def sender_reports(data: bytes) -> list[SenderReport]:
    """The sender reports of a compound packet. Everything else, and whatever is cut short, is ignored."""
    found: list[SenderReport] = []
    position = 0
    while position + 4 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            break
        if kind == SENDER_REPORT and words >= 6:
            ssrc, seconds, fraction, timestamp = struct.unpack_from("!IIII", data, position + 4)
            ntp_ns = (seconds - NTP_UNIX_OFFSET_S) * 1_000_000_000 + (fraction * 1_000_000_000 >> 32)
            middle = (seconds & 0xFFFF) << 16 | fraction >> 16
            found.append(SenderReport(ssrc, ntp_ns, timestamp, middle))
        position = end
    return found


def receiver_reports(sender: int, blocks: Sequence[ReportBlock]) -> list[bytes]:
    """Receiver reports of at most 31 blocks each."""
    packets = []
    for start in range(0, len(blocks), MAX_REPORT_BLOCKS):
        part = blocks[start : start + MAX_REPORT_BLOCKS]
        body = b"".join(
            struct.pack(
                "!IIIIII",
                block.ssrc,
                block.fraction_lost << 24 | max(-0x800000, min(0x7FFFFF, block.packets_lost)) & 0xFFFFFF,
                block.highest_sequence & 0xFFFFFFFF,
                block.jitter & 0xFFFFFFFF,
                block.last_report,
                block.delay & 0xFFFFFFFF,
            )
            for block in part
        )
        packets.append(
            struct.pack("!BBHI", 0x80 | len(part), RECEIVER_REPORT, 1 + 6 * len(part), sender) + body
        )
    return packets


def picture_loss(sender: int, media: int) -> bytes:
    """A request for a key frame (RFC 4585 section 6.3.1)."""
    return struct.pack("!BBHII", 0x80 | PICTURE_LOSS, PAYLOAD_FEEDBACK, 2, sender, media)


def nacks(sender: int, media: int, sequences: Iterable[int]) -> list[bytes]:
    """Requests for lost packets (RFC 4585 section 6.2.1). `sequences` are in ascending order, unwrapped or
    not."""
    items: list[tuple[int, int]] = []
    base, mask = -1, 0
    for sequence in sequences:
        ahead = sequence - base
        if base >= 0 and 0 < ahead <= 16:
            mask |= 1 << (ahead - 1)
            continue
        if base >= 0:
            items.append((base & 0xFFFF, mask))
        base, mask = sequence, 0
    if base >= 0:
        items.append((base & 0xFFFF, mask))
    packets = []
    for start in range(0, len(items), MAX_NACK_ITEMS):
        part = items[start : start + MAX_NACK_ITEMS]
        head = struct.pack("!BBHII", 0x80 | GENERIC_NACK, TRANSPORT_FEEDBACK, 2 + len(part), sender, media)
        packets.append(head + b"".join(struct.pack("!HH", *item) for item in part))
    return packets
