"""Reads the network at regular times, and knows up to when everything has been read."""

import asyncio

from openegress.core.units import S
from openegress.source.room.track_follower import TrackFollower

LOOK_S = 0.1
RELAXED_LOOK_S = 0.5
"""Time between two looks of the event loop at the network, whether anything comes or not."""
HELD_UP_NS = S // 4
"""If a look is overdue by this, the event loop is held up. Media that came in since the last look is unknown
then, so nothing is given up. Together with RELAXED_LOOK_S this is less than the wait for sound."""


class RegularDrain:
    """Drains the network of one follower. Runs on the event loop; another thread may call known_ns()."""

    def __init__(self, follower: TrackFollower, every_s: float) -> None:
        self._follower = follower
        self._every_s = every_s
        self._looked_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self.look()
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self.begin)

    def look(self) -> None:
        self._follower.drain()
        self._looked_ns = self._follower.now_ns()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def known_ns(self, now_ns: int) -> int:
        """The time up to which everything that came in is known: now, unless the event loop is held up. Unix
        ns."""
        is_held_up = now_ns - self._looked_ns > round(self._every_s * S) + HELD_UP_NS
        return self._looked_ns if is_held_up else now_ns
