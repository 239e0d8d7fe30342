"""What the event loop hands to the decoding thread: frames, selections, and what to drop."""

from collections import deque
from collections.abc import Iterator

from openegress.core.units import S
from openegress.room import EncodedFrame, Track
from openegress.source.memory import Shedding
from openegress.source.room.selection import Selection

HELD_FRAMES, HELD_NS = 1024, S
"""Of sound that comes before the start, this much is kept once there are more frames than this: the
newest."""

Item = tuple[Track, EncodedFrame] | tuple[int, Selection] | Shedding
"""Selections come with the unix ns of when they were made."""


class Inbox:
    """Filled by the event loop and emptied by the thread, in order; a deque needs no lock for that."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()

    def put(self, item: Item) -> None:
        self._items.append(item)

    def take_all(self) -> Iterator[Item]:
        """What comes in meanwhile too."""
        while self._items:
            yield self._items.popleft()

    def forget_early(self, last_at_ns: int) -> None:
        """Drops frames that are too old, before the start, when nobody takes anything out: a page that is
        waited for may begin in an hour. Called with each frame, so it looks at the oldest ones only."""
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
