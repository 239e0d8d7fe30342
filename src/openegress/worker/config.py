"""What a worker goes by."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from openegress.request.context import Context
from openegress.request.naming import Distinct
from openegress.request.request_kind import RequestKind
from openegress.store.handovers import Handovers
from openegress.store.leases import Leases
from openegress.worker.admission import AdmissionLimits, Cost

RoomMetadata = Callable[[str], Awaitable[str]]
"""The metadata of a room by its name, "" for one that is not there. Raises EgressError."""


async def no_metadata(room_name: str) -> str:
    """Where no LiveKit server can be asked."""
    return ""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    context: Callable[[], Context]
    """What the server adds to a request, as of now."""
    costs: Mapping[RequestKind, Cost]
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    max_browsers: int = 0
    """0: as many as there is room for."""
    cluster_id: str = ""
    same_path: Distinct = Distinct.UNNAMED
    """Which names give way where another recording is writing to them; where none does, it is refused."""
    room_metadata: RoomMetadata = no_metadata


@dataclass(frozen=True, slots=True)
class WorkerLeases:
    """Where workers tell each other what they hold."""

    egresses: Leases
    """Ids of egresses that run."""
    paths: Leases
    """What they write to."""
    handovers: Handovers | None = None
    """Egresses that another worker goes on with; None: no other does."""
