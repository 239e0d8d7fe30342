"""Decides which pictures of a recording a clip copies, and which it encodes again. Pure, except for the
encoder it is given."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto

from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip import TICKS, TICKS_PER_S, ticks_of

SAME_TICKS = TICKS_PER_S // 1000
"""Time after the start of a span within which a picture counts as its first, because containers count in
milliseconds."""

Encode = Callable[[Sequence[Packet], int, int], list[Packet]]
"""Encodes the pictures from one time on and before another one; the packets begin with a key frame."""


class _Stage(Enum):
    SEEKING = auto()
    """The first picture is searched for, in packets from the last key frame before it."""
    COPYING = auto()
    OVER = auto()


class PictureCut:
    """Takes packets in the recording's order, and returns those of the clip, whose time begins at 0.

    The first picture is the one on display when the span begins.
    """

    def __init__(self, begin_ns: int, end_ns: int, encode: Encode, *, reorders: bool) -> None:
        self._begin, self._end = ticks_of(begin_ns), ticks_of(end_ns)
        self._encode = encode
        self._reorders = reorders
        self._stage = _Stage.SEEKING
        self._group: list[Packet] = []
        """Packets from a key frame on: from the one that the first picture needs or, if pictures are
        reordered, from the last one."""
        self._last: Packet | None = None
        """The last packet, whose duration the next one reveals."""
        self.encoded = 0
        """Number of pictures that were encoded again."""
        self.copied = 0

    @property
    def is_seeking(self) -> bool:
        """Whether nothing has been returned yet."""
        return self._stage is _Stage.SEEKING

    @property
    def is_over(self) -> bool:
        return self._stage is _Stage.OVER

    def forget(self) -> None:
        """Drops everything so far, as none of it is on display when the span begins."""
        self._group = []

    def take(self, packet: Packet) -> list[Packet]:
        packet = _in_ticks(packet)
        match self._stage:
            case _Stage.SEEKING:
                return self._seek(packet)
            case _Stage.COPYING:
                return self._copy(packet)
            case _Stage.OVER:
                return []

    def finish(self) -> list[Packet]:
        """Returns the rest. Call it after the last packet."""
        made = self._head() if self._stage is _Stage.SEEKING else []
        if self._stage is _Stage.COPYING:
            made = self._rest()
        self._stage = _Stage.OVER
        return made + self._given(None)

    def _seek(self, packet: Packet) -> list[Packet]:
        if packet.is_key and packet.pts <= self._begin + SAME_TICKS:
            self._group = [packet]
            return []
        is_past = packet.pts >= self._end and not self._reorders
        if not packet.is_key and not is_past:
            if self._group:
                self._group.append(packet)
            return []
        made = self._head()
        self._stage = _Stage.COPYING
        return made + self._copy(packet)

    def _head(self) -> list[Packet]:
        group, self._group = self._group, []
        if not group:
            return []  # its first picture comes later
        shown = [each.pts for each in group if each.pts <= self._begin + SAME_TICKS]
        first = max(shown)
        kept = [each for each in group if each.pts < self._end]
        if first == group[0].pts and kept == group[: len(kept)]:
            return self._as_they_are(kept)
        return self._anew(group, first)

    def _copy(self, packet: Packet) -> list[Packet]:
        if not self._reorders:
            if packet.pts >= self._end:
                self._stage = _Stage.OVER
                return self._given(None)
            return self._as_they_are([packet])
        if packet.is_key and self._group:
            made = self._rest()
            self._group = [packet]
            if packet.pts >= self._end:
                self._stage = _Stage.OVER
                made += self._given(None)
            return made
        self._group.append(packet)
        return []

    def _rest(self) -> list[Packet]:
        group, self._group = self._group, []
        kept = [each for each in group if each.pts < self._end]
        if kept == group[: len(kept)]:
            return self._as_they_are(kept)
        # Other pictures may depend on the ones left out.
        return self._anew(group, self._begin)

    def _as_they_are(self, packets: Sequence[Packet]) -> list[Packet]:
        self.copied += len(packets)
        return [given for each in packets for given in self._given(each)]

    def _anew(self, group: Sequence[Packet], begin: int) -> list[Packet]:
        made = self._encode(group, begin, self._end)
        self.encoded += len(made)
        return [given for each in made for given in self._given(each)]

    def _given(self, packet: Packet | None) -> list[Packet]:
        """Returns the previous packet with its duration: at the end, up to the end of the span."""
        last, self._last = self._last, self._moved(packet) if packet is not None else None
        if last is None:
            return []
        duration = self._last.dts - last.dts if self._last is not None else self._end - self._begin - last.pts
        return [replace(last, duration=max(1, duration))]

    def _moved(self, packet: Packet) -> Packet:
        """Moves a packet to the clip's own timeline. The first picture may have appeared earlier."""
        pts = max(0, packet.pts - self._begin)
        early = pts - (packet.pts - self._begin)
        return replace(packet, pts=pts, dts=packet.dts - self._begin + early)


def _in_ticks(packet: Packet) -> Packet:
    if packet.time_base == TICKS:
        return packet

    def ticks(value: int) -> int:
        return ticks_of(value * S * packet.time_base.numerator // packet.time_base.denominator)

    pts, dts = ticks(packet.pts), ticks(packet.dts)
    return replace(packet, pts=pts, dts=dts, duration=0, time_base=TICKS)
