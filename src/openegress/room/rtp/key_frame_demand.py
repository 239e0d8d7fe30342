"""When a receiver asks the sender of a track for a key frame. Pure; times are monotonic ns."""

from openegress.core.units import MS, S

KEY_FRAME_REQUEST_NS = 500 * MS
"""Between two requests: a publisher needs some time to answer."""
KEY_FRAME_AFTER_NS = 700 * MS
"""Of waiting for a packet. It may come yet, but may as well have been lost on its way to the server: what
follows it cannot be decoded then, and what is not asked for before it is given up freezes for so much longer.
Round trips of 0.6 s bring nobody to ask."""


class KeyFrameDemand:
    def __init__(self) -> None:
        self.is_open = False
        """A key frame was asked for and has not come."""
        self._asked_ns = -KEY_FRAME_REQUEST_NS
        self._precaution_ns = -S
        """When a key frame was asked for while packets were waited for."""

    def may_ask(self, now_ns: int) -> bool:
        """Whether the last request was long enough ago; counts as one if so."""
        if now_ns - self._asked_ns < KEY_FRAME_REQUEST_NS:
            return False
        self._asked_ns = now_ns
        return True

    def takes_precaution(self, missing_since_ns: int | None, now_ns: int) -> bool:
        """Whether packets have been waited for so long that a key frame is asked for. Once for each wait."""
        since_ns = missing_since_ns
        if since_ns is None or since_ns <= self._precaution_ns or now_ns - since_ns < KEY_FRAME_AFTER_NS:
            return False
        self._precaution_ns = now_ns
        return True

    def follows_precaution(self, now_ns: int) -> bool:
        """The key frame that was asked for is among what was held up, or is asked for once more later."""
        return now_ns - self._precaution_ns < S
