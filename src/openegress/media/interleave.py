"""Orders the packets of several streams for a container: by DTS, with bounded delay. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet


def dts_ns(packet: Packet) -> int:
    # Integers: this runs for every packet of every output, and Fraction takes microseconds.
    return packet.dts * S * packet.time_base.numerator // packet.time_base.denominator


def end_ns(packet: Packet) -> int:
    """The time on the timeline at which a packet's media ends."""
    ticks = packet.pts + packet.duration
    return ticks * S * packet.time_base.numerator // packet.time_base.denominator


class Interleaver:
    """Merges one stream per kind into DTS order.

    Releases a packet once every stream has one to compare with it, or once the newest packet is
    `max_delay_ns` ahead of it: a silent stream delays the others no longer than that. A packet without a
    duration gets it from the next packet of its stream.
    """

    def __init__(self, kinds: Iterable[MediaKind], max_delay_ns: int) -> None:
        self._queues: dict[MediaKind, deque[tuple[int, Packet]]] = {kind: deque() for kind in kinds}
        """Packets of each kind as (DTS in ns, packet)."""
        self._last_duration: dict[MediaKind, int] = dict.fromkeys(self._queues, 0)
        self._max_delay_ns = max_delay_ns
        self._newest_ns = 0

    def push(self, packet: Packet) -> list[Packet]:
        """Takes a packet and returns those that may be written now, in order. Raises KeyError for an unknown
        stream."""
        queue = self._queues[packet.kind]
        if queue and not queue[-1][1].duration:
            at_ns, last = queue[-1]
            queue[-1] = (at_ns, replace(last, duration=max(0, packet.dts - last.dts)))
        at_ns = dts_ns(packet)
        queue.append((at_ns, packet))
        self._newest_ns = max(self._newest_ns, at_ns)
        released: list[Packet] = []
        while (kind := self._next()) is not None:
            released.append(self._take(kind))
        return released

    def flush(self) -> list[Packet]:
        """Returns the remaining packets. The last packet of a stream lasts as long as the one before it."""
        released: list[Packet] = []
        while heads := [(queue[0][0], kind) for kind, queue in self._queues.items() if queue]:
            released.append(self._take(min(heads)[1]))
        return released

    def _next(self) -> MediaKind | None:
        heads = [(queue[0][0], kind) for kind, queue in self._queues.items() if queue]
        if not heads:
            return None
        first_ns, kind = min(heads)
        if self._newest_ns - first_ns > self._max_delay_ns:
            return kind
        head = self._queues[kind][0][1]
        return kind if len(heads) == len(self._queues) and head.duration else None

    def _take(self, kind: MediaKind) -> Packet:
        packet = self._queues[kind].popleft()[1]
        if not packet.duration:
            packet = replace(packet, duration=self._last_duration[kind])
        self._last_duration[kind] = packet.duration
        return packet


class Clamp:
    """Rescales one stream's times into a container's time base, where DTS must rise strictly.

    Rounding, or two frames a millisecond apart, can make two equal there. The later one then moves by the
    least the container can tell apart.
    """

    def __init__(self, time_base: Fraction, offset_ns: int = 0, least: int | None = None) -> None:
        """`offset_ns` is added to every time; no DTS is below `least`, in `time_base`."""
        self._time_base = time_base
        self._offset = round(Fraction(offset_ns, S) / time_base)
        self._last_dts = None if least is None else least - 1
        self._from = time_base
        self._scale = (1, 1)

    def place(self, packet: Packet) -> tuple[int, int, int]:
        """Returns (pts, dts, duration) in the container's time base; pts is never before dts."""
        if packet.time_base is not self._from:
            self._from = packet.time_base
            scale = packet.time_base / self._time_base
            self._scale = (scale.numerator, scale.denominator)
        dts = self._rescale(packet.dts) + self._offset
        if self._last_dts is not None:
            dts = max(dts, self._last_dts + 1)
        self._last_dts = dts
        pts = max(self._rescale(packet.pts) + self._offset, dts)
        return pts, dts, self._rescale(packet.duration)

    def _rescale(self, ticks: int) -> int:
        """Rounds to the nearest tick, halves up."""
        numerator, denominator = self._scale
        return (2 * ticks * numerator + denominator) // (2 * denominator)
