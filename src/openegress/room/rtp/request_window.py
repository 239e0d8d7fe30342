"""Limits the lost packets that are requested at a time, and measures how long their answers take. Pure.

Answers share the path with new media. If its queue is full, they arrive late or not at all, and more or
earlier requests only lengthen the queue. So the window follows TCP (RFC 5681): it grows by one for each
answer, halves when an answer fails to come, and from then on grows by one for each window of answers.
"""

from collections import deque

from openegress.core.units import MS, S

MAX_PACKETS = 400
"""One second of 4 Mbit/s."""
MIN_PACKETS = 8
"""The window at the start. With answers within 40 ms, it replaces a loss of one fifth at 2 Mbit/s."""
SHRINKS_EVERY_NS = 100 * MS
"""The window halves at most this often: packets that are lost together count as one failure."""
LOOKED_AT = 8
"""The quickest of this many answers is the round trip. The others may have needed several requests."""
FIRST_ANSWER_NS = 250 * MS
"""The assumed time before the first answer. livekit-server answers three requests for a packet; they must
not all be sent before the first answer can arrive."""
LONGEST_ROUND_TRIP_NS = 1 * S
UNHEARD_NS = 110 * MS
"""livekit-server ignores requests within 100 ms of sending the packet, unless it has measured a shorter
round trip. An ignored request would also make the round trip look longer than it is."""
MIN_WAIT_NS = 10 * MS
"""Packets that are merely out of order arrive within this time."""


class RequestWindow:
    """The window of one SSRC. Times are monotonic ns."""

    def __init__(self) -> None:
        self._size = float(MIN_PACKETS)
        self._has_failed = False
        self._took_ns: deque[int] = deque(maxlen=LOOKED_AT)
        self._is_sure = False
        """The last answer came for a single request."""
        self._shrunk_ns = 0

    @property
    def round_trip_ns(self) -> int | None:
        """The time from a request to its answer; None before the first answer."""
        return min(LONGEST_ROUND_TRIP_NS, *self._took_ns) if self._took_ns else None

    @property
    def answer_ns(self) -> int:
        """How long to wait for an answer."""
        return FIRST_ANSWER_NS if self.round_trip_ns is None else self.round_trip_ns * 5 // 4

    @property
    def first_wait_ns(self) -> int:
        """The wait from the arrival of the packet after a lost one to the first request."""
        known_ns = self.round_trip_ns if self._is_sure else None
        return max(MIN_WAIT_NS, UNHEARD_NS - (known_ns or 0))

    def left(self, unanswered: int) -> int:
        """How many more packets may be requested while `unanswered` answers are still expected."""
        return max(0, int(self._size) - unanswered)

    def answered(self, took_ns: int, requests: int) -> None:
        """A packet arrived `took_ns` after the first of `requests` requests for it."""
        self._took_ns.append(max(0, took_ns))
        self._is_sure = requests == 1
        self._size = min(MAX_PACKETS, self._size + (1 / self._size if self._has_failed else 1))

    def failed(self, now_ns: int) -> None:
        """An answer did not arrive in time."""
        if now_ns - self._shrunk_ns >= max(SHRINKS_EVERY_NS, self.answer_ns):
            self._shrunk_ns, self._has_failed = now_ns, True
            self._size = max(MIN_PACKETS, self._size / 2)
