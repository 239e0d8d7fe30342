"""Finds the length of a packet of sound by its first bytes. Pure."""

from openegress.core.codecs import AudioCodec
from openegress.room.rtp.depacketise import MalformedPayload, opus

MAX_SAMPLES = 5760
"""The longest packet of Opus: 120 ms at 48 kHz (RFC 6716 section 3.2.5)."""


def duration_of(codec: AudioCodec, data: bytes) -> int:
    """The number of samples of a packet at the codec's RTP rate; 0 if it is malformed."""
    if codec is not AudioCodec.OPUS:
        return len(data)
    try:
        samples = opus.duration_samples(data)
    except MalformedPayload:
        return 0
    return samples if samples <= MAX_SAMPLES else 0
