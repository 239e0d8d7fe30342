"""Records of egresses and the webhook outbox, where they are ours: SQLite alone, Redis in a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from livekit.protocol.egress import EgressInfo


class Change(Enum):
    """What became of a record when an EgressInfo was put."""

    NEW = auto()
    UPDATED = auto()
    ENDED = auto()
    """It went from active to a terminal status: once in its life."""
    REVISED = auto()
    """An ended record learnt more, such as where a recovered file is."""
    STALE = auto()
    """Nothing: the record knows this or better already."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook event on its way to one URL."""

    egress_id: str
    url: str
    signing_key: str
    """Name of the API key whose secret signs it; the secret itself is never stored."""
    event: str
    body: bytes
    created_at_ns: int
    attempts: int = 0
    id: int = 0
    """Given by the outbox, rising."""


Announce = Callable[[Change, EgressInfo], Sequence[Delivery]]
"""The deliveries that a change of a record brings about: a pure function, called inside the transaction."""


class Store(Protocol):
    """Durable EgressInfo records. A status never goes back; of one status, what has an older updated_at than
    the stored one is ignored. What is stored has a later updated_at than what was."""

    async def open(self) -> None: ...

    async def put(self, info: EgressInfo) -> bool:
        """Stores; True when the record is new."""

    async def apply(self, info: EgressInfo, announce: Announce | None = None) -> Change:
        """Stores the record and the deliveries it brings about in one transaction."""

    async def get(self, egress_id: str) -> EgressInfo | None: ...

    async def list(self, room_name: str = "", active: bool = False) -> Sequence[EgressInfo]:
        """Newest first."""

    async def revision(self) -> int:
        """A number that rises whenever a record has changed: what list() said at the same one still holds."""

    async def purge(self, ended_before_ns: int) -> int:
        """Forgets records that ended before this unix time; how many."""

    async def close(self) -> None: ...


class Outbox(Protocol):
    """Deliveries that wait, in lanes: those of one egress to one URL go out in order."""

    async def claim(self, now_ns: int, until_ns: int, limit: int) -> Sequence[Delivery]:
        """The heads of lanes that are due. Each lane is the caller's until it confirms or postpones, or
        until `until_ns` has passed."""

    async def confirm(self, delivery: Delivery) -> None:
        """Delivered, or given up: the next of its lane is due at once."""

    async def postpone(self, delivery: Delivery, due_ns: int, attempts: int) -> None: ...

    async def is_followed(self, delivery: Delivery) -> bool:
        """Whether something newer waits behind it in its lane."""

    async def next_due_ns(self) -> int | None:
        """When the next lane is due; None when nothing waits."""
