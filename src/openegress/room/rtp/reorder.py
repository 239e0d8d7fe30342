"""Puts the packets of one SSRC in order: waits for lost ones, drops duplicates, reports gaps. Pure.

The caller gives each packet with its arrival time, and gets the packets that are in order by now. Sequence
numbers are unwrapped, so they never run backwards inside. It does not wait for lost packets that the one
after them repeats (RFC 2198).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openegress.core.units import MS
from openegress.room.rtp.nack import ENOUGH_REQUESTS, MissingPacket, NackPolicy
from openegress.room.rtp.packets import OVERTAKEN, RtpPacket
from openegress.room.rtp.request_window import RequestWindow

MAX_AHEAD_PACKETS = 3000
"""If more are missing, the stream has started again: no server keeps that many packets."""
MAX_BEHIND_PACKETS = 3000
"""A packet further behind is the first of a stream that has started again (RFC 3550 appendix A.1)."""
MAX_REPEATED_PACKETS = 8
"""Limit for repetitions in one packet: browsers and LiveKit repeat one or two."""
DEFERRED_NS = 20 * MS
"""Pause before another look at a request that had no room."""

Delivered = RtpPacket | None
"""None stands for packets that were given up."""
Repeats = Callable[[RtpPacket], Iterable[int]]
"""Returns the distances of the RTP times of repeated packets from the packet's own, which is later."""


@dataclass(slots=True)
class ReorderStats:
    received: int = 0
    recovered: int = 0
    """Packets that came after a request for them."""
    reordered: int = 0
    """Packets that came late without a request."""
    repeated: int = 0
    """Packets that needed no request, because a later packet repeats them."""
    duplicates: int = 0
    late: int = 0
    """Packets that came after they had been given up or delivered."""
    lost: int = 0
    requests: int = 0
    resets: int = 0


class Reorderer:
    def __init__(self, policy: NackPolicy | None = None, repeats: Repeats | None = None) -> None:
        """A caller that gives `repeats` takes lost packets out of those that repeat them."""
        self._policy = policy or NackPolicy()
        self._repeats = repeats
        self._next: int | None = None
        """The next sequence number to deliver."""
        self._timestamp = 0
        """RTP time of the last delivered packet."""
        self._heard_ns = 0
        """When the last packet came."""
        self._highest = -1
        self._first = 0
        self._waiting: dict[int, RtpPacket] = {}
        self._missing: dict[int, MissingPacket] = {}
        self._window = RequestWindow()
        self._due_ns: int | None = None
        """No request or surrender is due before this."""
        self._restart: int | None = None
        self.stats = ReorderStats()

    @property
    def highest(self) -> int:
        """The highest sequence number so far, cycles in the upper bits; -1 before the first packet."""
        return self._highest

    @property
    def expected(self) -> int:
        """The number of packets that should have come since the first one or the last reset."""
        return self._highest - self._first + 1 if self._next is not None else 0

    @property
    def missing(self) -> bool:
        return bool(self._missing)

    @property
    def doubtful_since_ns(self) -> int | None:
        """When the longest missing packet with enough requests was found missing; None: there is none."""
        asked = (each.since_ns for each in self._missing.values() if self._is_asked_enough(each))
        return min(asked, default=None)

    @property
    def round_trip_ns(self) -> int | None:
        """The time from a request to its answer; None: unknown."""
        return self._window.round_trip_ns

    def push(self, packet: RtpPacket, now_ns: int, *, retransmitted: bool = False) -> list[Delivered]:
        """Takes a packet, and returns the packets that are in order now."""
        self.stats.received += 1
        self._heard_ns = now_ns
        upcoming = self._next
        if upcoming is None:
            if retransmitted:
                return []  # there is nothing to place it by
            # One cycle ahead of zero, so that packets just behind the first have a number too.
            upcoming = self._next = self._first = packet.sequence + 0x10000
            self._highest = upcoming - 1
        ahead = (packet.sequence - upcoming) & 0xFFFF
        if ahead == 0 and not self._waiting and upcoming > self._highest:  # the usual case
            self._next = upcoming + 1
            self._highest = upcoming
            self._timestamp = packet.timestamp
            self._restart = None
            return [packet]
        if ahead >= 0x8000:
            ready = self._behind(packet, 0x10000 - ahead, retransmitted)
        else:
            ready = self._ahead(packet, upcoming + ahead, now_ns)
        oldest = next(iter(self._missing.values()), None)
        if oldest is not None and self._is_hopeless(oldest, now_ns):
            self._due_ns = now_ns  # soon, not now: its answer may be among packets that have just arrived
        return ready

    def due(self, now_ns: int) -> tuple[list[int], list[Delivered]]:
        """Gives up hopeless packets. Returns the sequence numbers to request now, in order, and the packets
        that are in order now."""
        hopeless = [each for each, missing in self._missing.items() if self._is_hopeless(missing, now_ns)]
        for sequence in hopeless:
            del self._missing[sequence]
        self.stats.lost += len(hopeless)
        requests = self._request(now_ns)
        self._due_ns = min(
            (min(each.due_ns, self._given_up_ns(each)) for each in self._missing.values()), default=None
        )
        self.stats.requests += len(requests)
        return requests, self._skip() if hopeless else []

    def _request(self, now_ns: int) -> list[int]:
        """The requests that are due and have room, those with the fewest earlier requests first."""
        due = [each for each, missing in self._missing.items() if now_ns >= missing.due_ns]
        due.sort(key=lambda each: (self._missing[each].requests, each))
        if any(self._missing[each].requests for each in due):
            self._window.failed(now_ns)
        room = self._window.left(sum(each.answer_ns > now_ns for each in self._missing.values()))
        for sequence in due[:room]:
            missing = self._missing[sequence]
            missing.requests += 1
            missing.asked_ns = missing.asked_ns or now_ns
            missing.due_ns = now_ns + self._policy.wait_ns(missing.requests, self._window.answer_ns)
            missing.answer_ns = now_ns + self._policy.wait_ns(1, self._window.answer_ns)
        for sequence in due[room:]:
            self._missing[sequence].due_ns = now_ns + DEFERRED_NS
        return sorted(due[:room])

    def next_due_ns(self) -> int | None:
        """When `due` should be called; None while nothing is missing."""
        return self._due_ns if self._missing else None

    def flush(self) -> list[Delivered]:
        """Ends the stream. Returns all packets that have come, gaps included."""
        self.stats.lost += len(self._missing)
        self._missing.clear()
        return self._skip()

    def _ahead(self, packet: RtpPacket, sequence: int, now_ns: int) -> list[Delivered]:
        self._restart = None
        known = self._missing.pop(sequence, None)
        arrived_ns = now_ns if packet.arrival_ns == OVERTAKEN else packet.arrival_ns
        if known is not None:
            packet = packet._replace(arrival_ns=OVERTAKEN)
            if known.requests:
                self.stats.recovered += 1
                self._window.answered(arrived_ns - known.asked_ns, known.requests)
            else:
                self.stats.reordered += 1
        elif sequence <= self._highest:
            self.stats.duplicates += 1
            return []
        if sequence > self._highest:
            if sequence - self._highest + len(self._missing) > MAX_AHEAD_PACKETS:
                return self._reset(packet)
            if sequence - self._highest > 1:
                due_ns = max(now_ns, arrived_ns + self._window.first_wait_ns)
                if not self._missing or self._due_ns is None or due_ns < self._due_ns:
                    self._due_ns = due_ns
                after_outage = sequence - self._highest > self._policy.outage_packets
                for skipped in range(self._highest + 1, sequence):
                    self._missing[skipped] = MissingPacket(now_ns, due_ns, after_outage)
            self._highest = sequence
        self._waiting[sequence] = packet
        return self._drain([])

    def _behind(self, packet: RtpPacket, distance: int, retransmitted: bool) -> list[Delivered]:
        if distance > MAX_BEHIND_PACKETS and not retransmitted:
            # Two in a row mean a new start; one is noise.
            if packet.sequence == self._restart:
                return self._reset(packet)
            self._restart = (packet.sequence + 1) & 0xFFFF
        self.stats.late += 1
        return []

    def _reset(self, packet: RtpPacket) -> list[Delivered]:
        """Continues with a stream that has started again elsewhere: missing packets will not come."""
        delivered = self.flush()
        self.stats.resets += 1
        self._restart = None
        following = (self._highest | 0xFFFF) + 1 + packet.sequence
        self._next, self._first, self._highest = following + 1, following, following
        self._timestamp = packet.timestamp
        return [*delivered, None, packet]

    def _given_up_ns(self, missing: MissingPacket) -> int:
        """When a missing packet is given up if nothing comes until then."""
        policy = self._policy
        if not self._is_asked_enough(missing):
            return missing.since_ns + policy.most_patience_ns
        return missing.since_ns + (policy.outage_patience_ns if missing.after_outage else policy.patience_ns)

    def _is_asked_enough(self, missing: MissingPacket) -> bool:
        """Whether further requests are pointless: there were enough, or no request at all is answered."""
        return missing.requests >= ENOUGH_REQUESTS or self.round_trip_ns is None

    def _is_hopeless(self, missing: MissingPacket, now_ns: int) -> bool:
        if not self._is_asked_enough(missing):
            return now_ns >= self._given_up_ns(missing)
        flowed_ns = self._heard_ns - missing.since_ns
        return flowed_ns >= self._policy.patience_ns or now_ns >= self._given_up_ns(missing)

    def _drain(self, delivered: list[Delivered]) -> list[Delivered]:
        assert self._next is not None
        while self._next in self._waiting or self._pass_repeated():
            packet = self._waiting.pop(self._next)
            delivered.append(packet)
            self._timestamp = packet.timestamp
            self._next += 1
        return delivered

    def _pass_repeated(self) -> bool:
        """Passes over the missing packets before the next one that has come, if it repeats them all.

        It does if as many of its repeated RTP times lie after the last delivered packet. Their number alone
        does not suffice: a server that adds the repetition leaves out packets that it does not have yet.
        """
        if self._repeats is None or not self._waiting:
            return False
        assert self._next is not None
        last = self._next + MAX_REPEATED_PACKETS
        behind = next((each for each in range(self._next + 1, last + 1) if each in self._waiting), None)
        if behind is None:
            return False
        packet, lost = self._waiting[behind], behind - self._next
        passed = packet.timestamp - self._timestamp & 0xFFFFFFFF
        if passed >= 1 << 31 or len({each for each in self._repeats(packet) if 0 < each < passed}) < lost:
            return False
        for sequence in range(self._next, behind):
            self._missing.pop(sequence, None)
        self.stats.repeated += lost
        self._next = behind
        return True

    def _skip(self) -> list[Delivered]:
        """Passes over packets that were given up, up to the next one that is still waited for."""
        delivered: list[Delivered] = []
        if self._next is None:
            return delivered
        while self._next <= self._highest and self._next not in self._missing:
            if self._next not in self._waiting:
                delivered.append(None)
                while (
                    self._next <= self._highest
                    and self._next not in self._waiting
                    and self._next not in self._missing
                ):
                    self._next += 1
            self._drain(delivered)
        return delivered
