"""Notices that the path from the server is too narrow for its pictures, and estimates what it carries. Pure.

The server sends the layers that were asked for until a receiver reports an estimate (REMB). One that is
wrong costs a recording its resolution, so only what nothing but a bottleneck explains counts: for seconds,
not a single packet comes without waiting in a queue, and packets get lost meanwhile. The queue is measured
between the server's own time of sending (abs-send-time) and the kernel's time of arrival: neither the
publisher's path nor a busy recorder shows in it.

From then on the estimate is reported ten times a second: a server that tries to send more looks at the
estimates of half a second. It is held, rises, and is lifted. After some minutes without a queue nothing is
reported any more.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from openegress.core.units import MS, S

LOOKED_AT_EVERY_NS = 40 * MS
"""So many packets tell how long they waited; the others are only counted."""
WINDOW_NS = 500 * MS
LEAST_LOOKS = 4
"""In a window that counts; with fewer packets a single one decides."""
STANDING_NS = 100 * MS
"""If even the quickest packet of a window waited so long, a queue stands: jitter and bursts drain."""
WINDOWS = 4
"""A queue that stood for two seconds is a bottleneck's."""
LEAST_LOST = 0.02
"""Of the packets meanwhile, and more than USUAL times what gets lost without a queue. Otherwise a longer way
explains the delay."""
USUAL = 1.5
QUICKEST_OF_NS = 30 * S
"""How long the quickest packet is remembered, at least; two clocks part by a few milliseconds meanwhile."""
MOST_DELAY_NS = 10 * S
"""A greater change of the delay is one of the server's clock."""

UTILISED = 0.85
"""The share of what arrives that may be sent: the queue drains, and requests find room."""
HELD_NS = 20 * S
"""How long an estimate is held, after the first time; twice as long each time that more was too much."""
LONGEST_HELD_NS = 600 * S
RISE = 1.025
"""Of the estimate in each window after that: 5 % a second."""
LIFTED_AT = 4.0
"""An estimate that has risen by this factor without a queue means nothing any more."""
LEAST_BPS = 50_000
MOST_BPS = 100_000_000
"""livekit-server's own value for a path without limits."""
LIFTED_FOR_NS = 150 * S
"""livekit-server tries at least each two minutes whether it can send more, and takes the estimate then."""
TOLD_EVERY_NS = 100 * MS
SINK = 0.998
"""Of the estimate in each report while a queue stands: a server that sees it sink does not try to send
more."""
FALL = 12
"""livekit-server believes a fall when twelve estimates in a row are falling."""
FALL_STEP = 0.001

UNITS_PER_S = 1 << 18
"""Of abs-send-time, which has 24 bits: it begins again after 64 s."""
WRAP = 1 << 24


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """Of all pictures' packets so far."""

    expected: int = 0
    missed: int = 0
    """Those that did not come, or came only when they were requested."""

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
    """A limit is reported that is none, until the server has surely noticed."""


class QueueDelay:
    """How much longer packets take than the quickest one lately. Times are monotonic ns."""

    def __init__(self) -> None:
        self._transit: int | None = None
        """From sending to arrival, in abs-send-time's units, with an unknown offset."""
        self._quickest = self._quickest_before = 0
        self._since_ns = 0

    def of(self, sent: int, arrival_ns: int) -> int:
        """In ns. `sent`: abs-send-time."""
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
    """The least delay."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """A window in which a queue stood."""

    counts: PacketCounts
    """At its end."""
    bps: int


class NarrowPath:
    """The path of one connection. Times are monotonic ns, of arrival: when packets are read does not
    matter."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of pictures' packets so far; the caller adds them."""
        self.due_ns = 0
        """No packet that arrives before this has to be taken."""
        self.state = PathState.CLEAR
        self.bps = MOST_BPS
        """The estimate."""
        self._delay = QueueDelay()
        self._window = _Window(0, 0)
        self._queued: deque[_Queued] = deque(maxlen=WINDOWS)
        """The last windows, if a queue stood in each."""
        self._queued_for = 0
        """The number of windows in which it has stood."""
        self._counts_before = PacketCounts()
        """Before `_queued`."""
        self._usual = self._unusual = PacketCounts()
        """In windows without a queue; of the last one, in which a queue may have begun."""
        self._found_bps = 0
        """The estimate before it rose."""
        self._held_ns = HELD_NS // 2
        self._until_ns = 0
        """The state's next step."""
        self._told_ns = 0

    def take(self, sent: int | None, arrival_ns: int, counts: Callable[[], PacketCounts]) -> Sequence[int]:
        """Takes a packet of pictures. Returns the estimates to report now, in bits a second, in order.
        `sent`: its abs-send-time; None: it does not tell how long it took."""
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
        """Or the server has to be reminded of the estimate, as it sends more."""
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
        """At the end of the last window."""
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
