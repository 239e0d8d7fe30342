"""Limits how many lost packets are requested at a time, and measures how long answers take. Pure.

Answers share the path with new packets. If its queue is full, answers arrive late or not at all, and requests
that are sooner or larger make the queue longer for all. As in TCP (RFC 5681), the window grows by one for
each answer, and halves when answers fail to come.
"""

from collections import deque

from openegress.core.units import MS, S

MOST_PACKETS = 400
"""A second of 4 Mbit/s."""
LEAST_PACKETS = 8
"""The smallest window, and the first: answered within 40 ms, it makes up for a fifth of 2 Mbit/s that is
lost."""
SHRINKS_EVERY_NS = 100 * MS
"""The window shrinks at most this often: packets that are lost at once are one failure."""
LOOKED_AT = 8
"""Answers; the quickest of them gives the round trip. The others may have had more than one request."""
FIRST_ANSWER_NS = 250 * MS
"""Before the first answer. livekit-server answers three requests for a packet: they must not all come before
the first answer."""
LONGEST_ROUND_TRIP_NS = 1 * S


class RequestWindow:
    """Times are monotonic ns."""

    def __init__(self) -> None:
        self._size = LEAST_PACKETS
        self._took_ns: deque[int] = deque(maxlen=LOOKED_AT)
        self._shrunk_ns = 0

    @property
    def round_trip_ns(self) -> int | None:
        """From a request to its answer; None: there was none yet."""
        return min(LONGEST_ROUND_TRIP_NS, *self._took_ns) if self._took_ns else None

    @property
    def answer_ns(self) -> int:
        """How long to wait for an answer."""
        return FIRST_ANSWER_NS if self.round_trip_ns is None else self.round_trip_ns * 5 // 4

    def left(self, unanswered: int) -> int:
        """How many may be requested while this many answers may still come."""
        return max(0, self._size - unanswered)

    def answered(self, took_ns: int) -> None:
        """A packet has come this long after the first request for it."""
        self._took_ns.append(took_ns)
        self._size = min(MOST_PACKETS, self._size + 1)

    def failed(self, now_ns: int) -> None:
        """No answer has come in time."""
        if now_ns - self._shrunk_ns >= max(SHRINKS_EVERY_NS, self.answer_ns):
            self._shrunk_ns = now_ns
            self._size = max(LEAST_PACKETS, self._size // 2)
