"""Queues the events of a room's source: notices, and at most one end of the recording."""

import asyncio
from collections.abc import AsyncIterator, Callable

from openegress.core.errors import Code, EgressError, Phase
from openegress.core.events import EndReason
from openegress.core.fair_share import FairShare
from openegress.room.events import DataArrived, RoomEvent
from openegress.source import Closed, Failed, Notice, Observed, SourceEvent
from openegress.source.room.observed_room import ObservedRoom
from openegress.source.room.selection import Verdict
from openegress.source.room_orders import OwnParticipantChange, room_orders

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Limit for data that waits before anyone reads events: a recorder may wait for hours until somebody
publishes. All senders of the room share it."""


ENDS = {
    Verdict.END: Closed(),
    Verdict.END_EMPTY: Closed(EndReason.EMPTY),
    Verdict.END_IDLE: Closed(EndReason.IDLE),
}
"""The end event for each verdict that ends the recording at once."""


class SourceEvents:
    """Emits at most one Closed or Failed. wake() and the end wake all waiting tasks."""

    def __init__(self, room_name: str, *, has_layout: bool = True) -> None:
        """`has_layout`: see room_orders()."""
        self._room_name = room_name
        self._has_layout = has_layout
        self._queue: asyncio.Queue[SourceEvent | None] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._over: SourceEvent | None = None
        self._waiting = FairShare(MAX_WAITING_BYTES)
        self._has_dropped = False
        self.observer: ObservedRoom | None = None
        """Set if all events of the room are needed."""

    @property
    def is_over(self) -> bool:
        return self._over is not None

    async def stream(self) -> AsyncIterator[SourceEvent]:
        """The events, until close()."""
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Observed) and isinstance(event.event, DataArrived):
                self._waiting.give_back(event.event.identity, _size_of(event.event))
            yield event

    def put(self, event: SourceEvent) -> None:
        self._queue.put_nowait(event)

    def observe(self, event: RoomEvent, at_ns: int) -> None:
        if self.observer is not None:
            at_ns = event.at_ns if isinstance(event, DataArrived) else at_ns
            for each in self.observer.seen(event):
                self._tell(Observed(each, at_ns))

    def _tell(self, observed: Observed) -> None:
        event = observed.event
        if isinstance(event, DataArrived) and not self._waiting.take(event.identity, _size_of(event)):
            if not self._has_dropped:
                self._has_dropped = True
                self.notice("data left out: too much was sent before the recording began")
            return
        self._queue.put_nowait(observed)

    def notice(self, text: str, **fields: str | int | float | bool | None) -> None:
        self._queue.put_nowait(Notice(text, fields))

    def take_orders(self, told: OwnParticipantChange) -> bool:
        """Takes orders from the recorder's metadata or attributes. Returns whether they change the picture
        too."""
        asked = room_orders(told, has_layout=self._has_layout)
        for event in asked.events:
            self.put(event)
        return asked.changes_picture

    def end(self, event: SourceEvent) -> None:
        """Reports the end. Only the first one counts."""
        if self._over is None:
            self._over = event
            self._queue.put_nowait(event)
            self.wake()

    def close(self) -> None:
        self._queue.put_nowait(None)

    def wake(self) -> None:
        """Wakes waiting tasks: what they wait for may be there now."""
        self._changed.set()

    async def wait_until(self, is_there: Callable[[], bool]) -> None:
        """Waits until `is_there()`, which is called again at each wake(). Raises EgressError if the room
        closed meanwhile."""
        while not is_there():
            await self.next_change()

    async def next_change(self) -> None:
        """Waits for the next wake(). Raises EgressError if the room closed meanwhile."""
        self._changed.clear()
        self.refuse_if_over()
        await self._changed.wait()

    def refuse_if_over(self) -> None:
        """Raises EgressError if the room was closed, or the recording failed."""
        if isinstance(self._over, Failed):
            raise self._over.error
        if self._over is not None:
            raise EgressError(
                Code.UNAVAILABLE,
                f"room {self._room_name} was closed before there was anything to record",
                phase=Phase.FIRST_TRACK,
            )


def _size_of(event: DataArrived) -> int:
    """The approximate size of a data event."""
    return 1000 + event.packet.ByteSize()
