"""Where encoded frames go on the recording's timeline when nothing is decoded. Pure.

Sound is placed by its sample count, which follows the sender's clock by a thousandth at most; holes are
filled with packets that a decoder plays as silence, because some players count packets rather than read
time stamps.
"""

from dataclasses import dataclass

from openegress.core.codecs import AudioCodec
from openegress.media import NS
from openegress.media.passthrough import AUDIO_RATE, VIDEO_TIME_BASE

SLACK_MS = 1
"""How far they may part before the count is led back: less than a thousandth a packet, which nobody hears."""
MAX_DRIFT_MS = 30
"""How far sample count and clock may part before packets are left out or silence is put in."""
CONCEALED_MS = 60
"""A hole this short is a loss, which a decoder bridges better than silence does."""
_OPUS_SILENCE = b"\xff\xfe"
"""After a CELT-only table of contents: a frame without sound (as encoders send for digital silence)."""
_OPUS_SILENT_CONFIGS = ((31, 960), (30, 480), (29, 240), (28, 120))
"""CELT, full band (RFC 6716 table 2), with samples at 48 kHz: a hole is filled to 2.5 ms."""
_G711_SILENCE = {AudioCodec.PCMU: b"\xff", AudioCodec.PCMA: b"\xd5"}


@dataclass(frozen=True, slots=True)
class Placed:
    """An audio packet with its time and length, in samples at the codec's rate."""

    pts: int
    duration: int
    data: bytes


class AudioPlacer:
    """For one stream of packets, of one codec."""

    def __init__(self, codec: AudioCodec) -> None:
        self._codec = codec
        self._rate = AUDIO_RATE[codec]
        self._anchor: tuple[int, int] | None = None
        """(RTP time, pts) that belong together."""
        self._next: int | None = None
        self._stereo = False

    @property
    def end_ns(self) -> int | None:
        """Up to where the stream is placed; None before its first packet."""
        return None if self._next is None else self._next * NS // self._rate

    def place(self, timeline_ns: int, rtp_timestamp: int, data: bytes) -> list[Placed]:
        """The packet captured at `timeline_ns`, after what fills the hole before it; nothing when it is to
        be left out: from before media time zero, or too much."""
        duration = duration_of(self._codec, data)
        if not duration:
            return []
        wanted = timeline_ns * self._rate // NS
        self._follow(rtp_timestamp, wanted, duration)
        pts = self._by_count(rtp_timestamp)
        if self._codec is AudioCodec.OPUS:
            self._stereo = bool(data[0] & 4)
        if self._next is None:
            if pts < 0:
                return []
            self._next = pts
        if abs(pts - self._next) <= duration // 100:
            self._next = pts + duration
            return [Placed(pts, duration, data)]
        if pts + duration // 2 < self._next:
            return []
        filled = self._fill(pts, data) if pts > self._next else []
        if pts != self._next:
            # A fraction of a packet is no hole and no overlap; the count goes on from here.
            self._anchor = (rtp_timestamp, self._next)
            pts = self._next
        self._next = pts + duration
        return [*filled, Placed(pts, duration, data)]

    def silence_until(self, timeline_ns: int) -> list[Placed]:
        """Fills up to a time, whole packets only: for a track that is muted, or at the end."""
        if self._next is None:
            return []
        return self._fill(timeline_ns * self._rate // NS, None)

    def _follow(self, rtp_timestamp: int, wanted: int, duration: int) -> None:
        drift = 0 if self._anchor is None else wanted - self._by_count(rtp_timestamp)
        if self._anchor is None or abs(drift) > self._rate * MAX_DRIFT_MS // 1000:
            self._anchor = (rtp_timestamp, wanted)
        elif abs(drift) > self._rate * SLACK_MS // 1000:
            step = max(1, duration // 1000)
            self._anchor = (self._anchor[0], self._anchor[1] + (step if drift > 0 else -step))

    def _by_count(self, rtp_timestamp: int) -> int:
        assert self._anchor is not None
        return self._anchor[1] + rtp_timestamp - self._anchor[0]

    def _fill(self, until: int, after: bytes | None) -> list[Placed]:
        """What fills the hole up to a position, or leaves less of it than a packet can be short."""
        assert self._next is not None
        concealed = after is not None and until - self._next <= self._rate * CONCEALED_MS // 1000
        filled: list[Placed] = []
        while True:
            data = self._silence(until - self._next)
            if concealed and after and duration_of(self._codec, after) <= until - self._next:
                data = self._concealment(after)
            duration = duration_of(self._codec, data)
            if not duration or self._next + duration > until:
                return filled
            filled.append(Placed(self._next, duration, data))
            self._next += duration

    def _concealment(self, like: bytes) -> bytes:
        """RFC 7845 section 4.1: a table of contents alone asks an Opus decoder to bridge one frame."""
        if self._codec is not AudioCodec.OPUS:
            return self._silence(duration_of(self._codec, like))
        return bytes([like[0] & 0xFC])

    def _silence(self, samples: int) -> bytes:
        """One packet of at most so many samples; b"" where none is as short."""
        if self._codec is AudioCodec.OPUS:
            for config, duration in _OPUS_SILENT_CONFIGS:
                if duration <= samples:
                    return bytes([config << 3 | self._stereo << 2]) + _OPUS_SILENCE
            return b""
        return _G711_SILENCE[self._codec] * min(samples, self._rate // 50)


class VideoPlacer:
    """Times in media.passthrough.VIDEO_TIME_BASE, rising strictly from 0."""

    def __init__(self) -> None:
        self._last = -1

    def place(self, timeline_ns: int) -> int:
        wanted = round(timeline_ns * VIDEO_TIME_BASE.denominator / NS)
        self._last = max(wanted, self._last + 1)
        return self._last


def duration_of(codec: AudioCodec, data: bytes) -> int:
    """Samples of a packet at the codec's RTP rate; 0 when it is malformed (Opus: RFC 6716 section 3)."""
    if codec is not AudioCodec.OPUS:
        return len(data)
    if not data:
        return 0
    config, code = data[0] >> 3, data[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    match code:
        case 0:
            count = 1
        case 1 | 2:
            count = 2
        case _:
            count = data[1] & 0x3F if len(data) > 1 else 0
    total = frame * count
    return total if total <= 5760 else 0  # 120 ms, the longest packet there is
