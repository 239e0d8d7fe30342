"""Tracks how long tracks are left out, and when each is taken again."""

import asyncio
import time
from collections.abc import Callable, Collection, Container

from openegress.core.units import S
from openegress.room import TrackKey
from openegress.room.budget import Reason, Standing


class Standings:
    """The standings of tracks that are subscribed to, or were left out lately. A track that is published
    again keeps its standing."""

    def __init__(self, on_end: Callable[[TrackKey], None]) -> None:
        """`on_end` is called when a track that was left out is taken again."""
        self._on_end = on_end
        self._by_key: dict[TrackKey, Standing] = {}
        self._pauses: dict[TrackKey, asyncio.TimerHandle] = {}
        """The timers of tracks that are left out."""

    def of(self, key: TrackKey, subscribed: Collection[TrackKey]) -> Standing:
        """The standing of a track. Forgets tracks that have behaved and are not `subscribed` to."""
        now_ns = time.monotonic_ns()
        self._by_key = {
            known: standing
            for known, standing in self._by_key.items()
            if known in subscribed or not standing.is_forgiven(now_ns)
        }
        return self._by_key.setdefault(key, Standing())

    def leave_out(self, key: TrackKey, reason: Reason) -> float:
        """Leaves the track out. Returns for how many seconds."""
        pause_s = self._by_key[key].leave_out(reason, time.monotonic_ns()) / S
        self._pauses[key] = asyncio.get_running_loop().call_later(pause_s, self._end, key)
        return pause_s

    def take_again(self, reasons: Container[Reason]) -> None:
        """Immediately takes the tracks again that were left out for one of these reasons."""
        for key, timer in list(self._pauses.items()):
            if self._by_key[key].reason in reasons:
                timer.cancel()
                self._end(key)

    def close(self) -> None:
        for timer in self._pauses.values():
            timer.cancel()

    def _end(self, key: TrackKey) -> None:
        """Takes the track again: only that shows whether it behaves."""
        del self._pauses[key]
        self._by_key[key].take(time.monotonic_ns())
        self._on_end(key)
