"""Decides when a receiver requests a key frame from the sender of a track. Pure; times are monotonic ns."""

from openegress.core.units import MS, S

KEY_FRAME_REQUEST_NS = 500 * MS
"""Minimum time between two requests: a publisher needs some time to answer."""
ROUND_TRIPS = 5
"""Minimum time between two requests in round trips, for a path whose queue is long: there, a key frame takes
as long as many other pictures. A second one requested too soon queues behind the first."""
KEY_FRAME_AFTER_NS = 700 * MS
"""Wait for a packet before a key frame is requested, although the packet may still come. If it was lost on
its way to the server, nothing after it can be decoded, and waiting until it is given up makes the picture
freeze for longer. Round trips of 0.6 s cause no request."""


class KeyFrameDemand:
    def __init__(self) -> None:
        self.is_open = False
        """A key frame was requested and has not arrived."""
        self._asked_ns = -KEY_FRAME_REQUEST_NS
        self._precaution_ns = -S
        """When a key frame was last requested during a wait for packets."""

    def may_ask(self, now_ns: int, round_trip_ns: int | None) -> bool:
        """Whether the last request was long enough ago; if so, this counts as a request. `round_trip_ns`:
        None if unknown."""
        if now_ns - self._asked_ns < max(KEY_FRAME_REQUEST_NS, ROUND_TRIPS * (round_trip_ns or 0)):
            return False
        self._asked_ns = now_ns
        return True

    def takes_precaution(self, doubtful_since_ns: int | None, now_ns: int) -> bool:
        """Whether a wait for packets has lasted so long that a key frame should be requested. True only once
        for each wait."""
        since_ns = doubtful_since_ns
        if since_ns is None or since_ns <= self._precaution_ns or now_ns - since_ns < KEY_FRAME_AFTER_NS:
            return False
        self._precaution_ns = now_ns
        return True

    def follows_precaution(self, now_ns: int) -> bool:
        """Whether a key frame was requested lately: it is among the packets that were held up, or is
        requested again later."""
        return now_ns - self._precaution_ns < S
