"""Places encoded frames on the recording's timeline without decoding. Pure.

Sound is placed by its sample count, which follows the timeline by at most a thousandth. Gaps are filled with
packets that a decoder plays as silence, because some players count packets instead of reading time stamps.
Late sound is still written; dropping packets without speech makes up for it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import AUDIO_RATE, VIDEO_TIME_BASE, AudioCodec
from openegress.core.units import S
from openegress.room.sound_length import duration_of

SLACK_MS = 1
"""Deviation of the count from the timeline up to which it is not corrected."""
SLEW = 1000
"""The count is corrected by one sample in this many: an Ogg page states its position once a second, and must
not seem to have a gap."""
MAX_DRIFT_MS = 60
"""Lead of the timeline over the sample count above which silence is inserted."""
CONCEALED_MS = 60
"""Limit for a gap that counts as a loss: a decoder conceals it better than silence does."""
_OPUS_SILENCE = b"\xff\xfe"
"""The rest of a CELT-only packet after its table of contents: a frame without sound, as encoders send for
digital silence."""
_OPUS_SILENT_CONFIGS = ((31, 960), (30, 480), (29, 240), (28, 120))
"""(configuration, samples at 48 kHz) of CELT, full band (RFC 6716 table 2): they fill a gap to within 2.5
ms."""
_G711_SILENCE = {AudioCodec.PCMU: b"\xff", AudioCodec.PCMA: b"\xd5"}


@dataclass(frozen=True, slots=True)
class TimedAudio:
    """An audio packet with its time and length, in samples at the codec's rate."""

    pts: int
    duration: int
    data: bytes


class AudioPts:
    """The times of one packet stream of one codec. `is_pause` returns whether a packet lacks speech; it is
    called only while packets come early or late.

    `sparse`: for containers whose players use time stamps. Gaps stay gaps, and every packet is written: one
    without speech begins before the last has ended, whereas a dense stream would drop it.
    """

    def __init__(self, codec: AudioCodec, is_pause: Callable[[bytes], bool], *, sparse: bool = False) -> None:
        self._sparse = sparse
        self._codec = codec
        self._rate = AUDIO_RATE[codec]
        self._is_pause = is_pause
        self._next: int | None = None
        self._rtp_end = 0
        """RTP time of the last packet's end."""
        self._late = 0
        self._slewed = 0
        """Samples since the slew last moved the count by one."""
        self._stereo = False

    @property
    def end_ns(self) -> int | None:
        """The end of the last packet; None before the first."""
        return None if self._next is None else self._next * S // self._rate

    @property
    def late_ns(self) -> int:
        """How late the last packet is; negative: early."""
        return self._late * S // self._rate

    def place(self, at_ns: int, rtp_timestamp: int, data: bytes) -> list[TimedAudio]:
        """Returns the packet heard at `at_ns`, after the filler for a gap before it. Nothing if the packet is
        malformed, or is a pause that is dropped to make up for late sound."""
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
        filled: list[TimedAudio] = []
        early = wanted - self._next
        is_hole = early > 0 and not follows
        is_early = early > self._rate * MAX_DRIFT_MS // 1000
        if is_hole or is_early or (early > duration // 2 and self._is_pause(data)):
            filled = self._fill(wanted, data)
            early = 0  # a fraction of a packet is not a gap; the count continues from here
        elif -early > duration // 2 and self._is_pause(data):
            if not self._sparse:
                self._late = -early - duration
                return []
            self._next -= min(-early, duration // 2)
            early = 0
        pts = self._next + self._step(duration, early)
        self._next = pts + duration
        self._late = pts - at_ns * self._rate // S
        return [*filled, TimedAudio(pts, duration, data)]

    def silence_until(self, at_ns: int) -> list[TimedAudio]:
        """Fills up to a time, whole packets only, for a track that sends nothing, or at the end."""
        if self._next is None:
            self._next = 0
        filled = self._fill(at_ns * self._rate // S, None)
        if filled:
            self._late = 0
        return filled

    def _step(self, duration: int, early: int) -> int:
        """The samples by which a packet corrects the count towards the timeline."""
        if abs(early) <= self._rate * SLACK_MS // 1000:
            self._slewed = 0
            return 0
        whole, self._slewed = divmod(self._slewed + duration, SLEW)
        return max(-whole, min(whole, early))

    def _fill(self, until: int, after: bytes | None) -> list[TimedAudio]:
        """Fills the gap up to a position, except for less than the shortest packet."""
        assert self._next is not None
        if self._sparse:
            self._next = until
            return []
        concealed = after is not None and until - self._next <= self._rate * CONCEALED_MS // 1000
        filled: list[TimedAudio] = []
        while True:
            data = self._silence(until - self._next)
            if concealed and after and duration_of(self._codec, after) <= until - self._next:
                data = self._concealment(after)
            duration = duration_of(self._codec, data)
            if not duration or self._next + duration > until:
                return filled
            filled.append(TimedAudio(self._next, duration, data))
            self._next += duration

    def _concealment(self, like: bytes) -> bytes:
        """A packet that a decoder conceals. A table of contents alone asks an Opus decoder to conceal one
        frame (RFC 7845 section 4.1)."""
        if self._codec is not AudioCodec.OPUS:
            return self._silence(duration_of(self._codec, like))
        return bytes([like[0] & 0xFC])

    def _silence(self, samples: int) -> bytes:
        """One packet of at most `samples` samples; b"" if none is that short."""
        if self._codec is AudioCodec.OPUS:
            for config, duration in _OPUS_SILENT_CONFIGS:
                if duration <= samples:
                    return bytes([config << 3 | self._stereo << 2]) + _OPUS_SILENCE
            return b""
        return _G711_SILENCE[self._codec] * min(samples, self._rate // 50)


class VideoPts:
    """The times of one video stream in media.passthrough.VIDEO_TIME_BASE, strictly rising from 0."""

    def __init__(self) -> None:
        self._last = -1

    def place(self, at_ns: int) -> int:
        wanted = round(at_ns * VIDEO_TIME_BASE.denominator / S)
        self._last = max(wanted, self._last + 1)
        return self._last
