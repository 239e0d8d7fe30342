"""The configuration of a worker."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from openegress.request.context import Context
from openegress.request.naming import Distinct
from openegress.request.request_kind import RequestKind
from openegress.store.handovers import Handovers
from openegress.store.leases import Leases
from openegress.worker.admission import AdmissionLimits, Cost

RoomMetadata = Callable[[str], Awaitable[str]]
"""Returns the metadata of a room by its name, "" if the room does not exist. Raises EgressError."""


async def no_metadata(room_name: str) -> str:
    """Returns "", for workers that cannot ask a LiveKit server."""
    return ""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    context: Callable[[], Context]
    """Returns what the server currently adds to a request."""
    costs: Mapping[RequestKind, Cost]
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    max_browsers: int = 0
    """Limit for browsers; 0: as many as the machine has capacity for."""
    cluster_id: str = ""
    same_path: Distinct = Distinct.UNNAMED
    """The names that get a suffix if another recording writes to them; other requests are refused."""
    room_metadata: RoomMetadata = no_metadata


@dataclass(frozen=True, slots=True)
class WorkerLeases:
    """The leases by which workers tell each other what they hold."""

    egresses: Leases
    """Leases by the ids of running egresses."""
    paths: Leases
    """Leases by the paths that they write."""
    handovers: Handovers | None = None
    """Egresses that another worker may take over; None: no worker takes over."""
