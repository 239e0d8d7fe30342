"""Decides which packets of sound go into a clip. Pure."""

from dataclasses import replace

from openegress.core.codecs import AudioCodec
from openegress.core.units import MS, S
from openegress.media import Packet

PREROLL_NS: dict[AudioCodec, int] = {
    AudioCodec.AAC: 60 * MS,  # a frame and a bit of 22.05 kHz
    AudioCodec.OPUS: 80 * MS,  # RFC 7845 4.6
    AudioCodec.MP3: 160 * MS,  # the bit reservoir, and a frame
}
"""How much sound a decoder needs before its output is right."""


class SoundCut:
    """Takes packets in the recording's order, and returns those of the clip, whose time begins at 0.

    With `preroll_ns` it includes the earlier packets that a decoder needs; their times are below 0. Otherwise
    the first packet is the first that begins in the span.
    """

    def __init__(self, begin_ns: int, end_ns: int, preroll_ns: int = 0) -> None:
        self._begin_ns, self._end_ns = begin_ns, end_ns
        self._preroll_ns = preroll_ns
        self.is_over = False

    def take(self, packet: Packet) -> list[Packet]:
        at_ns = packet.pts_ns
        scale = packet.time_base.numerator * S / packet.time_base.denominator
        if at_ns >= self._end_ns:
            self.is_over = True
            return []
        heard_ns = at_ns + (packet.duration * scale if self._preroll_ns else 0)
        if heard_ns < self._begin_ns - self._preroll_ns or (not self._preroll_ns and at_ns < self._begin_ns):
            return []
        begin = round(self._begin_ns / scale)
        left = round(self._end_ns / scale) - packet.pts
        return [
            replace(
                packet,
                pts=packet.pts - begin,
                dts=packet.pts - begin,
                duration=min(packet.duration, left) if packet.duration else left,
            )
        ]
