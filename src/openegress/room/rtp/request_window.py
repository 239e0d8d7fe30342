"""How many lost packets are asked for at a time, and how long their answers take. Pure.

Answers share the path with what is sent anew. Where its queue is full they arrive late or not at all, and
whoever asks sooner, or for more, makes the queue longer for all. As TCP does (RFC 5681): one more at a time
for each answer, half as many where answers fail to come."""

from collections import deque

from openegress.core.units import MS, S

MOST_PACKETS = 400
"""A second of 4 Mbit/s."""
LEAST_PACKETS = 8
"""As many as at first: answered within 40 ms, they make up for a fifth of 2 Mbit/s that is lost."""
SHRINKS_EVERY_NS = 100 * MS
"""At most: what is lost at once is one failure."""
LOOKED_AT = 8
"""Answers, of which the quickest tells the round trip. The others may have been asked for more than once."""
FIRST_ANSWER_NS = 250 * MS
"""While none has come. livekit-server answers three requests for a packet: they must not all come before
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
        """From a request to its answer; None: none has come."""
        return min(LONGEST_ROUND_TRIP_NS, *self._took_ns) if self._took_ns else None

    @property
    def answer_ns(self) -> int:
        """How long to wait for an answer."""
        return FIRST_ANSWER_NS if self.round_trip_ns is None else self.round_trip_ns * 5 // 4

    def left(self, unanswered: int) -> int:
        """How many may be asked for, while so many answers may still come."""
        return max(0, self._size - unanswered)

    def answered(self, took_ns: int) -> None:
        """A packet has come, so long after the first request for it."""
        self._took_ns.append(took_ns)
        self._size = min(MOST_PACKETS, self._size + 1)

    def failed(self, now_ns: int) -> None:
        """No answer has come in time."""
        if now_ns - self._shrunk_ns >= max(SHRINKS_EVERY_NS, self.answer_ns):
            self._shrunk_ns = now_ns
            self._size = max(LEAST_PACKETS, self._size // 2)
