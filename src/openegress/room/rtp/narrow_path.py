"""Notices that the path from the server is too narrow for its pictures, and estimates what it carries. Pure.

The server sends the layers that were requested until a receiver reports an estimate (REMB). A wrong estimate
costs a recording its resolution, so only signs that nothing but a bottleneck explains count: for seconds,
every packet waits in a queue, and packets are lost meanwhile. The queue is measured between the server's own
time of sending (abs-send-time) and the kernel's time of arrival, so neither the publisher's path nor a busy
recorder affects it.

From then on the estimate is reported ten times a second: a server that tries to send more reads the
estimates of half a second. The estimate is held, then rises, and is then lifted. After some minutes without
a queue nothing is reported any more.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from openegress.core.units import MS, S

LOOKED_AT_EVERY_NS = 40 * MS
"""Interval between packets whose delay is measured; the others are only counted."""
WINDOW_NS = 500 * MS
LEAST_LOOKS = 4
"""Minimum number of measured packets in a window that counts; among fewer, a single one would decide."""
STANDING_NS = 100 * MS
"""If even the quickest packet of a window waited this long, a queue stands: jitter and bursts drain."""
WINDOWS = 4
"""A queue that stood for this many windows, two seconds, is that of a bottleneck."""
LEAST_LOST = 0.02
"""Minimum share of packets that are lost meanwhile, in addition to USUAL times the share that is lost without
a queue. With fewer losses, a longer path explains the delay."""
USUAL = 1.5
QUICKEST_OF_NS = 30 * S
"""Minimum time for which the quickest packet is remembered; two clocks drift apart by a few milliseconds
meanwhile."""
MOST_DELAY_NS = 10 * S
"""A greater change of the delay is a change of the server's clock."""

UTILISED = 0.85
"""The estimate as a share of the rate that arrives: the queue drains, and requested packets have room."""
HELD_NS = 20 * S
"""Time for which the first estimate is held; it doubles each time that more was too much."""
LONGEST_HELD_NS = 600 * S
RISE = 1.025
"""Factor by which the estimate rises in each window after that: 5 % a second."""
LIFTED_AT = 4.0
"""An estimate that has risen by this factor without a queue is lifted."""
LEAST_BPS = 50_000
MOST_BPS = 100_000_000
"""livekit-server's own value for a path without limits."""
LIFTED_FOR_NS = 150 * S
"""Time for which a lifted limit is reported: livekit-server tries at least every two minutes to send more,
and reads the estimate then."""
TOLD_EVERY_NS = 100 * MS
SINK = 0.998
"""Factor for the estimate in each report while a queue stands: a server that sees it sink does not try to
send more."""
FALL = 12
"""Number of falling estimates in a row after which livekit-server believes a fall."""
FALL_STEP = 0.001

UNITS_PER_S = 1 << 18
"""Units of abs-send-time, which has 24 bits and wraps around after 64 s."""
WRAP = 1 << 24


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """The counts of all packets of pictures so far."""

    expected: int = 0
    missed: int = 0
    """Packets that did not arrive, or arrived only after a request."""

    def __add__(self, other: "PacketCounts") -> "PacketCounts":
        return PacketCounts(self.expected + other.expected, self.missed + other.missed)

    def __sub__(self, other: "PacketCounts") -> "PacketCounts":
        return PacketCounts(self.expected - other.expected, self.missed - other.missed)

    @property
    def missed_share(self) -> float:
        return max(0.0, self.missed / self.expected) if self.expected > 0 else 0.0


class PathState(Enum):
    CLEAR = auto()
    """Nothing is reported."""
    NARROW = auto()
    LIFTED = auto()
    """MOST_BPS is reported, until the server has surely noticed."""


class QueueDelay:
    """Measures how much longer packets take than the quickest recent one. Times are monotonic ns."""

    def __init__(self) -> None:
        self._transit: int | None = None
        """The last time from sending to arrival, in units of abs-send-time, with an unknown offset."""
        self._quickest = self._quickest_before = 0
        self._since_ns = 0

    def of(self, sent: int, arrival_ns: int) -> int:
        """The delay of a packet in ns. `sent`: its abs-send-time."""
        transit = arrival_ns * UNITS_PER_S // S - sent
        last = transit if self._transit is None else self._transit
        change = (transit - last + WRAP // 2) % WRAP - WRAP // 2
        at = last + change
        if self._transit is None or abs(change) > MOST_DELAY_NS * UNITS_PER_S // S:
            self._quickest = self._quickest_before = at
            self._since_ns = arrival_ns
        elif arrival_ns - self._since_ns > QUICKEST_OF_NS:
            self._quickest_before, self._quickest = self._quickest, at
            self._since_ns = arrival_ns
        self._transit = at
        self._quickest = min(self._quickest, at)
        return (at - min(self._quickest, self._quickest_before)) * S // UNITS_PER_S


@dataclass(slots=True)
class _Window:
    begun_ns: int
    bytes_before: int
    looks: int = 0
    least_ns: int = 0
    """The smallest delay."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """A window in which a queue stood."""

    counts: PacketCounts
    """The counts at the end of the window."""
    bps: int


class NarrowPath:
    """The path of one connection. Times are monotonic ns of arrival; when packets are read does not
    matter."""

    def __init__(self) -> None:
        self.bytes = 0
        """Bytes of all packets of pictures so far; the caller adds them."""
        self.due_ns = 0
        """take() may be skipped for packets that arrive before this."""
        self.state = PathState.CLEAR
        self.bps = MOST_BPS
        """The estimate."""
        self._delay = QueueDelay()
        self._window = _Window(0, 0)
        self._queued: deque[_Queued] = deque(maxlen=WINDOWS)
        """The last windows, if a queue stood in each."""
        self._queued_for = 0
        """The number of windows in a row in which a queue stood."""
        self._counts_before = PacketCounts()
        """The counts before `_queued`."""
        self._usual = self._unusual = PacketCounts()
        """The counts in windows without a queue, and those in the last one, in which a queue may have
        begun."""
        self._found_bps = 0
        """The estimate before it rose."""
        self._held_ns = HELD_NS // 2
        self._until_ns = 0
        """When the state's next step is due."""
        self._told_ns = 0

    def take(self, sent: int | None, arrival_ns: int, counts: Callable[[], PacketCounts]) -> Sequence[int]:
        """Takes a packet of pictures. Returns the estimates to report now, in bits a second, in order.
        `sent`: its abs-send-time; None: unknown."""
        self.due_ns = arrival_ns + LOOKED_AT_EVERY_NS
        if sent is None:
            return ()
        window, delay_ns = self._window, self._delay.of(sent, arrival_ns)
        window.least_ns = min(window.least_ns, delay_ns) if window.looks else delay_ns
        window.looks += 1
        if arrival_ns - window.begun_ns >= WINDOW_NS:
            self._end_window(arrival_ns, counts())
            if self._has_to_fall(arrival_ns):
                self._told_ns = arrival_ns
                return [round(self.bps * (1 + FALL_STEP * step)) for step in reversed(range(FALL))]
        if self.state is PathState.CLEAR or arrival_ns - self._told_ns < TOLD_EVERY_NS:
            return ()
        self._told_ns = arrival_ns
        if self._queued_for:
            self.bps = max(LEAST_BPS, round(SINK * self.bps))
        return (self.bps,)

    def _end_window(self, now_ns: int, counts: PacketCounts) -> None:
        window, self._window = self._window, _Window(now_ns, self.bytes)
        took_ns = now_ns - window.begun_ns
        is_full = window.looks >= LEAST_LOOKS and took_ns < 2 * WINDOW_NS
        if is_full and window.least_ns >= STANDING_NS:
            if len(self._queued) == WINDOWS:
                self._counts_before = self._queued[0].counts
            self._queued.append(_Queued(counts, (self.bytes - window.bytes_before) * 8 * S // took_ns))
            self._queued_for += 1
        else:
            if not self._queued_for:
                self._usual += self._unusual
            self._unusual = counts - self._last_counts
            self._queued.clear()
            self._queued_for = 0
            self._counts_before = counts

    def _has_to_fall(self, now_ns: int) -> bool:
        """Whether to report a falling estimate: it is lower, or the server sends more and has to be
        reminded."""
        if self.state is PathState.NARROW:
            if not self._queued_for:
                if now_ns >= self._until_ns:
                    self._rise(now_ns)
                return False
            if self.bps > self._found_bps:
                self._hold(self._found_bps, now_ns)
            elif len(self._queued) == WINDOWS:
                self.bps = min(self.bps, self._estimate())
            self._found_bps = self.bps
            self._until_ns = now_ns + self._held_ns
            # After 1, 4, 8, 16 ... windows: the server may be unable to send less.
            return self._queued_for == 1 or (
                self._queued_for >= WINDOWS and self._queued_for.bit_count() == 1
            )
        if self._is_bottleneck():
            self.state = PathState.NARROW
            self._found_bps = self._estimate()
            self._counts_before = self._last_counts
            self._queued.clear()
            self._hold(self._found_bps, now_ns)
            return True
        if self.state is PathState.LIFTED and now_ns >= self._until_ns:
            self.state = PathState.CLEAR
            self._held_ns = HELD_NS // 2
        return False

    def _is_bottleneck(self) -> bool:
        if len(self._queued) < WINDOWS:
            return False
        meanwhile = self._last_counts - self._counts_before
        return meanwhile.missed_share >= LEAST_LOST + USUAL * self._usual.missed_share

    @property
    def _last_counts(self) -> PacketCounts:
        """The counts at the end of the last window."""
        return self._queued[-1].counts if self._queued else self._counts_before

    def _estimate(self) -> int:
        return max(LEAST_BPS, round(UTILISED * sum(each.bps for each in self._queued) / WINDOWS))

    def _hold(self, bps: int, now_ns: int) -> None:
        self.bps = bps
        self._held_ns = min(2 * self._held_ns, LONGEST_HELD_NS)
        self._until_ns = now_ns + self._held_ns

    def _rise(self, now_ns: int) -> None:
        self.bps = round(RISE * self.bps)
        if self.bps >= min(MOST_BPS, LIFTED_AT * self._found_bps):
            self.state = PathState.LIFTED
            self.bps = MOST_BPS
            self._until_ns = now_ns + LIFTED_FOR_NS
