"""Holds records of egresses and the webhook outbox, if openegress keeps them itself: in SQLite for one
machine, in Redis for a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from livekit.protocol.egress import EgressInfo


class Change(Enum):
    """The effect of an EgressInfo on a record."""

    NEW = auto()
    UPDATED = auto()
    ENDED = auto()
    """The egress went from active to a terminal status, which happens once."""
    REVISED = auto()
    """An ended record got more results, such as the location of a recovered file."""
    STALE = auto()
    """Nothing changes: the record already has this state or a newer one."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook event on its way to one URL."""

    egress_id: str
    url: str
    signing_key: str
    """Name of the API key that signs the event; the secret itself is never stored."""
    event: str
    body: bytes
    created_at_ns: int
    attempts: int = 0
    id: int = 0
    """A rising number, assigned by the outbox."""


Announce = Callable[[Change, EgressInfo], Sequence[Delivery]]
"""Returns the deliveries that a change of a record requires. It is a pure function, called inside the
transaction."""


class Store(Protocol):
    """Durable EgressInfo records. The status of a record never goes back. An update with the same status and
    an older updated_at is ignored. Each stored state has a later updated_at than the one before.

    Every method raises EgressError (UNAVAILABLE) if the database cannot be used.
    """

    async def open(self) -> None:
        """Connects, and makes the tables. Call it once, before any other method."""

    async def put(self, info: EgressInfo) -> bool:
        """Stores a record. Returns True if it is new."""

    async def apply(self, info: EgressInfo, announce: Announce | None = None) -> Change:
        """Stores a record and the deliveries that `announce` returns, in one transaction."""

    async def get(self, egress_id: str) -> EgressInfo | None:
        """The record, or None if there is none."""

    async def list(self, room_name: str = "", active: bool = False) -> Sequence[EgressInfo]:
        """Records, newest first: all, those of a room, or only active ones."""

    async def revision(self) -> int:
        """A number that rises with each change of a record. While it stays the same, so does list()."""

    async def purge(self, ended_before_ns: int) -> int:
        """Deletes records that ended before this unix time. Returns their number."""

    async def close(self) -> None:
        """Disconnects. Idempotent."""


class Outbox(Protocol):
    """Deliveries that wait. They form lanes: the deliveries of one egress to one URL are sent in order.

    Every method raises EgressError (UNAVAILABLE) if the database cannot be used. Times are unix ns.
    """

    async def claim(self, now_ns: int, until_ns: int, limit: int) -> Sequence[Delivery]:
        """Returns the heads of up to `limit` lanes that are due. The caller holds these lanes until it
        confirms or postpones the delivery, at most until `until_ns`."""

    async def confirm(self, delivery: Delivery) -> None:
        """Removes a delivery that was accepted or given up. The next one of its lane is due at once."""

    async def postpone(self, delivery: Delivery, due_ns: int, attempts: int) -> None:
        """Makes the lane due again at `due_ns`, and notes the number of attempts."""

    async def is_followed(self, delivery: Delivery) -> bool:
        """Whether its lane has a newer delivery."""

    async def next_due_ns(self) -> int | None:
        """The time at which the next lane is due; None if the outbox is empty."""
