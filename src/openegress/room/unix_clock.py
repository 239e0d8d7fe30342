"""The clock of one recording."""

import time


class UnixClock:
    """Unix time that never jumps: the wall clock once, the monotonic clock from there on."""

    def __init__(self) -> None:
        self.offset_ns = time.time_ns() - time.monotonic_ns()
        """Turns a monotonic time into unix time."""

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.offset_ns
