"""Presentation and decode times of pictures that come in decode order with presentation times only. Pure.

RTP tells when a picture is shown (RFC 6184 section 5.1). A sender with B frames, such as a WHIP publisher,
sends each after the picture that it precedes. Containers also want to know when each is decoded: in the order
of sending, and before it is shown (ISO/IEC 14496-12 8.6.1). In a stream that reorders by N pictures that is
known N pictures later, so N are held back; in other streams none.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

MOST_REORDERED = 4
"""Encoders for calls and broadcasts use one or two; H.264 allows 16, which nobody can hold back live."""
_MOST_BACK = 90_000
"""If a picture lies more than a second before the one sent ahead of it, the sender's clock began anew."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    item: T
    pts: int
    dts: int


class PresentationTimes:
    """For RTP pictures whose wall-clock times only rise. A picture that is shown before one sent ahead of it
    is placed by the distance of their RTP times. In ticks of 90 kHz, as RTP's are for video (RFC 3551)."""

    def __init__(self) -> None:
        self._newest: tuple[int, int] | None = None
        """(RTP time, pts) of the picture shown last."""
        self._before: tuple[int, int] | None = None
        """Of the one that was that before it."""

    def place(self, wall: int, rtp_timestamp: int, *, is_key: bool) -> int:
        """`wall`: where its capture lies, rising strictly."""
        if self._newest is not None and not is_key:
            newest_rtp, newest_pts = self._newest
            back = newest_rtp - rtp_timestamp
            if 0 < back < _MOST_BACK:
                return self._between(rtp_timestamp, newest_rtp, newest_pts)
            if -_MOST_BACK < back < 0:
                # The first picture is placed by its arrival, and a large one comes late: those after it are
                # drawn together for a while, and no two are shown at a time.
                wall = max(wall, newest_pts - back // 2)
        self._before, self._newest = self._newest, (rtp_timestamp, wall)
        return wall

    def _between(self, rtp_timestamp: int, newest_rtp: int, newest_pts: int) -> int:
        """Of a picture that is shown before the newest. Where that was drawn together with the one before it,
        those in between are too: none is shown before that one."""
        apart = newest_pts - (newest_rtp - rtp_timestamp)
        if self._before is None:
            return apart
        before_rtp, before_pts = self._before
        span, shown_span = newest_rtp - before_rtp, newest_pts - before_pts
        if not (before_rtp < rtp_timestamp and 0 < shown_span < span):
            return apart
        return before_pts + (rtp_timestamp - before_rtp) * shown_span // span


class DecodeTimes(Generic[T]):
    """For one stream. Holds back as many pictures as it reorders."""

    def __init__(self, depth: int) -> None:
        """`depth`: by how many pictures the stream reorders, as far as its parameters say."""
        self._depth = min(depth, MOST_REORDERED)
        self._held: deque[tuple[int, T]] = deque()
        self._last_dts: int | None = None
        self._newest_pts: list[int] = []
        """Of pictures given out, newest last, as many as can be overtaken."""

    def put(self, pts: int, item: T) -> list[Timed[T]]:
        """Returns the pictures whose turn it is."""
        self._learn(pts)
        self._held.append((pts, item))
        return self._release(self._depth)

    def flush(self) -> list[Timed[T]]:
        """Returns what is held back."""
        return self._release(0)

    def _learn(self, pts: int) -> None:
        """A picture overtakes more of those given out than the parameters allow: they were wrong."""
        overtaken = sum(each > pts for each in (*self._newest_pts, *(each for each, _ in self._held)))
        if overtaken > self._depth:
            self._depth = min(overtaken, MOST_REORDERED)

    def _release(self, keep: int) -> list[Timed[T]]:
        released: list[Timed[T]] = []
        while len(self._held) > keep:
            dts = self._next_dts()
            pts, item = self._held.popleft()
            released.append(Timed(item, max(pts, dts), dts))
            self._last_dts = dts
            self._newest_pts = [*self._newest_pts, pts][-MOST_REORDERED:]
        return released

    def _next_dts(self) -> int:
        """Evenly up to the earliest picture that is known to come: none is decoded after it is shown."""
        earliest, count = min((pts, n) for n, (pts, _) in enumerate(self._held, 1))
        if self._last_dts is None:
            return earliest - (count - 1)
        return self._last_dts + max(1, (earliest - self._last_dts) // count)
