"""Reads Opus (RFC 7587): a payload is a packet. Its first bytes give its duration (RFC 6716 section 3)."""

from openegress.room.rtp.depacketise.unit import MalformedPayload

FRAME_SAMPLES: tuple[tuple[int, int, int, int], ...] = (
    ((480, 960, 1920, 2880),) * 12 + ((480, 960, 480, 960),) * 4 + ((120, 240, 480, 960),) * 16
)
"""Frame durations in samples, by configuration groups: SILK, hybrid, CELT."""


def duration_samples(packet: bytes) -> int:
    """The duration of a packet in samples at 48 kHz. Raises MalformedPayload."""
    if not packet:
        raise MalformedPayload("an empty Opus packet")
    first = packet[0]
    configuration = first >> 3
    samples = FRAME_SAMPLES[configuration][configuration & 3]
    match first & 3:
        case 0:
            return samples
        case 1 | 2:
            return 2 * samples
    if len(packet) < 2:
        raise MalformedPayload("an Opus packet ends before its frame count")
    return (packet[1] & 0x3F) * samples
