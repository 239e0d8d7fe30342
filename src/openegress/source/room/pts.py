"""Where encoded frames go on the recording's timeline when nothing is decoded. Pure.

Sound is placed by its sample count, which follows the timeline by a thousandth at most; holes are filled
with packets that a decoder plays as silence, because some players count packets rather than read time stamps.
Sound that comes late is written all the same, and made up for by leaving out packets in which nobody speaks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import AUDIO_RATE, VIDEO_TIME_BASE, AudioCodec
from openegress.core.units import S
from openegress.room.sound_length import duration_of

SLACK_MS = 1
"""How far the count and the timeline may part before the count is corrected."""
SLEW = 1000
"""It is corrected by one sample of so many: an Ogg page states its position once a second, and must not seem
to have a gap."""
MAX_DRIFT_MS = 60
"""How far the timeline may run ahead of the sample count before silence is put in."""
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


class AudioPts:
    """For one stream of packets, of one codec. `is_pause` tells whether nobody speaks in a packet; it is
    asked only while packets come early or late.

    `sparse`: for containers whose players go by time stamps. Holes stay holes, and every packet is written:
    one in which nobody speaks begins before the last has ended, where another stream would leave it out.
    """

    def __init__(self, codec: AudioCodec, is_pause: Callable[[bytes], bool], *, sparse: bool = False) -> None:
        self._sparse = sparse
        self._codec = codec
        self._rate = AUDIO_RATE[codec]
        self._is_pause = is_pause
        self._next: int | None = None
        self._rtp_end = 0
        """RTP time at which the last packet ended."""
        self._late = 0
        self._slewed = 0
        """Samples of slewed packets that have not yet moved the count by one."""
        self._stereo = False

    @property
    def end_ns(self) -> int | None:
        """Up to where the stream is placed; None before its first packet."""
        return None if self._next is None else self._next * S // self._rate

    @property
    def late_ns(self) -> int:
        """How far the last packet lies behind its time; negative: ahead of it."""
        return self._late * S // self._rate

    def place(self, at_ns: int, rtp_timestamp: int, data: bytes) -> list[Placed]:
        """The packet heard at `at_ns`, after what fills the hole before it; nothing when it is malformed, or
        a pause that is left out to make up for what was late."""
        duration = duration_of(self._codec, data)
        if not duration:
            return []
        if self._codec is AudioCodec.OPUS:
            self._stereo = bool(data[0] & 4)
        wanted = max(0, at_ns * self._rate // S)
        follows = abs(rtp_timestamp - self._rtp_end) <= duration // 2
        self._rtp_end = rtp_timestamp + duration
        if self._next is None:
            self._next = wanted
        filled: list[Placed] = []
        early = wanted - self._next
        is_hole = early > 0 and not follows
        is_early = early > self._rate * MAX_DRIFT_MS // 1000
        if is_hole or is_early or (early > duration // 2 and self._is_pause(data)):
            filled = self._fill(wanted, data)
            early = 0  # a fraction of a packet is no hole; the count goes on from here
        elif -early > duration // 2 and self._is_pause(data):
            if not self._sparse:
                self._late = -early - duration
                return []
            self._next -= min(-early, duration // 2)
            early = 0
        pts = self._next + self._step(duration, early)
        self._next = pts + duration
        self._late = pts - at_ns * self._rate // S
        return [*filled, Placed(pts, duration, data)]

    def silence_until(self, at_ns: int) -> list[Placed]:
        """Fills up to a time, whole packets only: for a track that sends nothing, or at the end."""
        if self._next is None:
            self._next = 0
        filled = self._fill(at_ns * self._rate // S, None)
        if filled:
            self._late = 0
        return filled

    def _step(self, duration: int, early: int) -> int:
        """By how much a packet corrects the count towards the timeline."""
        if abs(early) <= self._rate * SLACK_MS // 1000:
            self._slewed = 0
            return 0
        whole, self._slewed = divmod(self._slewed + duration, SLEW)
        return max(-whole, min(whole, early))

    def _fill(self, until: int, after: bytes | None) -> list[Placed]:
        """What fills the hole up to a position, except for less than the shortest packet."""
        assert self._next is not None
        if self._sparse:
            self._next = until
            return []
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


class VideoPts:
    """Times in media.passthrough.VIDEO_TIME_BASE, rising strictly from 0."""

    def __init__(self) -> None:
        self._last = -1

    def place(self, at_ns: int) -> int:
        wanted = round(at_ns * VIDEO_TIME_BASE.denominator / S)
        self._last = max(wanted, self._last + 1)
        return self._last
