"""Passes frames, selections and drop requests from the event loop to the decoding thread."""

from collections import deque
from collections.abc import Iterator

from openegress.core.units import S
from openegress.room import EncodedFrame, Track
from openegress.source.memory import Shedding
from openegress.source.room.selection import Selection

HELD_FRAMES, HELD_NS = 1024, S
"""Before the start, once there are more frames than this, only the newest sound of this length is kept."""

Item = tuple[Track, EncodedFrame] | tuple[int, Selection] | Shedding
"""Selections carry the unix ns of their making."""


class Inbox:
    """The event loop fills it and the thread empties it, in order; a deque needs no lock for that."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()

    def put(self, item: Item) -> None:
        self._items.append(item)

    def take_all(self) -> Iterator[Item]:
        """Takes out all items, including those that come in meanwhile."""
        while self._items:
            yield self._items.popleft()

    def forget_early(self, last_at_ns: int) -> None:
        """Drops frames that are too old, before the start, when nothing is taken out: an awaited page may
        take an hour to begin. It is called with each frame, so it looks only at the oldest ones."""
        if len(self._items) <= HELD_FRAMES:
            return
        before_ns = last_at_ns - HELD_NS
        kept: list[Item] = []
        while self._items:
            match self._items[0]:
                case Track(), EncodedFrame() as frame if frame.at_ns < before_ns:
                    self._items.popleft()
                case Track(), EncodedFrame():
                    break
                case other:
                    kept.append(other)
                    self._items.popleft()
        self._items.extendleft(reversed(kept))
