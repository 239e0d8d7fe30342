"""Computes decode times for pictures in decode order that have presentation times only. Pure.

RTP states when a picture is shown (RFC 6184 section 5.1). A sender with B frames, such as a WHIP publisher,
sends each after the picture that it precedes. Containers also need decode times: in sending order, and never
after the presentation time (ISO/IEC 14496-12 8.6.1). In a stream that reorders by N pictures these are known
N pictures later, so N are held back; other streams hold back none.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_REORDERED = 4
"""Limit for reordered pictures: encoders for calls and broadcasts use one or two; H.264 allows 16, too many
to hold back live."""
_MAX_BACK = 90_000
"""If a picture lies more than a second before the one sent ahead of it, the sender's clock has restarted."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TimedPicture(Generic[T]):
    item: T
    pts: int
    dts: int


class PresentationTimes:
    """Places RTP pictures whose wall-clock times only rise. A picture shown before one sent ahead of it is
    placed by the distance of their RTP times. Times are 90 kHz ticks, like RTP's for video (RFC 3551)."""

    def __init__(self) -> None:
        self._newest: tuple[int, int] | None = None
        """(RTP time, pts) of the picture shown last."""
        self._before: tuple[int, int] | None = None
        """(RTP time, pts) of the picture shown before that."""

    def place(self, wall: int, rtp_timestamp: int, *, is_key: bool) -> int:
        """The presentation time of a picture. `wall`: capture time, strictly rising."""
        if self._newest is not None and not is_key:
            newest_rtp, newest_pts = self._newest
            back = newest_rtp - rtp_timestamp
            if 0 < back < _MAX_BACK:
                return self._between(rtp_timestamp, newest_rtp, newest_pts)
            if -_MAX_BACK < back < 0:
                # The first picture is placed by its arrival, and a large one comes late: the pictures after
                # it move closer together for a while, without sharing a time.
                wall = max(wall, newest_pts - back // 2)
        self._before, self._newest = self._newest, (rtp_timestamp, wall)
        return wall

    def _between(self, rtp_timestamp: int, newest_rtp: int, newest_pts: int) -> int:
        """Places a picture shown before the newest. If the newest moved closer to its predecessor, pictures
        in between do too: none is shown before that predecessor."""
        apart = newest_pts - (newest_rtp - rtp_timestamp)
        if self._before is None:
            return apart
        before_rtp, before_pts = self._before
        span, shown_span = newest_rtp - before_rtp, newest_pts - before_pts
        if not (before_rtp < rtp_timestamp and 0 < shown_span < span):
            return apart
        return before_pts + (rtp_timestamp - before_rtp) * shown_span // span


class DecodeTimes(Generic[T]):
    """The decode times of one stream. Holds back as many pictures as the stream reorders."""

    def __init__(self, depth: int) -> None:
        """`depth`: by how many pictures the stream reorders, according to its parameters."""
        self._depth = min(depth, MAX_REORDERED)
        self._held: deque[tuple[int, T]] = deque()
        self._last_dts: int | None = None
        self._newest_pts: list[int] = []
        """The PTS of the last pictures given out, newest last: those that can be overtaken."""

    def put(self, pts: int, item: T) -> list[TimedPicture[T]]:
        """Takes a picture. Returns the pictures that are due."""
        self._learn(pts)
        self._held.append((pts, item))
        return self._release(self._depth)

    def flush(self) -> list[TimedPicture[T]]:
        """Returns the held pictures."""
        return self._release(0)

    def _learn(self, pts: int) -> None:
        """Raises the depth if a picture overtakes more pictures than the parameters allow."""
        overtaken = sum(each > pts for each in (*self._newest_pts, *(each for each, _ in self._held)))
        if overtaken > self._depth:
            self._depth = min(overtaken, MAX_REORDERED)

    def _release(self, keep: int) -> list[TimedPicture[T]]:
        released: list[TimedPicture[T]] = []
        while len(self._held) > keep:
            dts = self._next_dts()
            pts, item = self._held.popleft()
            released.append(TimedPicture(item, max(pts, dts), dts))
            self._last_dts = dts
            self._newest_pts = [*self._newest_pts, pts][-MAX_REORDERED:]
        return released

    def _next_dts(self) -> int:
        """The next decode time. They are spaced evenly up to the earliest known picture, so that none is
        decoded after it is shown."""
        earliest, count = min((pts, n) for n, (pts, _) in enumerate(self._held, 1))
        if self._last_dts is None:
            return earliest - (count - 1)
        return self._last_dts + max(1, (earliest - self._last_dts) // count)
