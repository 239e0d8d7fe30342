"""The clock of one recording."""

import time


class UnixClock:
    """Unix time that never jumps: the wall clock is read once, and the monotonic clock counts from there."""

    def __init__(self) -> None:
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        """The number to add to a monotonic time for unix time."""

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.offset_ns
