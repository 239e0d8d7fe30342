"""The participants' clocks compared, so that capture times of one room can be. Pure.

A sender report carries the publisher's own clock: LiveKit passes it through. Most clocks are set by NTP
and agree to some milliseconds; some are off by seconds or hours. Those are moved so that their frames
seem to have been captured when they arrived, as early as the quickest packet allows.
"""

S = 1_000_000_000
MS = 1_000_000

EARLIEST_NS = -100 * MS
"""A frame that arrives before it was captured: the clocks differ by this at least."""
LATEST_NS = 800 * MS
"""More than any path and encoder of a live call takes."""


class RoomClock:
    """One per room; a participant's correction is fixed once, for all of its tracks, and over re-joins."""

    def __init__(self) -> None:
        self._corrections: dict[str, int] = {}

    def correction_ns(self, identity: str, least_delay_ns: int) -> int:
        """To be added to the participant's times.

        `least_delay_ns` is the smallest difference of arrival and capture seen on one of its tracks; it
        counts only the first time.
        """
        if identity not in self._corrections:
            trusted = EARLIEST_NS <= least_delay_ns <= LATEST_NS
            self._corrections[identity] = 0 if trusted else least_delay_ns
        return self._corrections[identity]

    def known(self, identity: str) -> int | None:
        return self._corrections.get(identity)
