"""The services that livekit-server and its egress workers offer each other, as a table of methods."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from livekit.protocol.egress import (
    EgressInfo,
    ListEgressRequest,
    ListEgressResponse,
    StopEgressRequest,
    UpdateLayoutRequest,
    UpdateStreamRequest,
)

from openegress.core.backoff import Backoff
from openegress.core.errors import Code
from openegress.proto.egress_rpc_pb2 import (
    GetEgressRequest,
    ListActiveEgressRequest,
    ListActiveEgressResponse,
    StartEgressRequest,
    UpdateMetricsRequest,
)
from openegress.proto.openegress_control_pb2 import ClipInfo, CutRequest
from openegress.psrpc.claims import ClaimSelection

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


_BACKOFF = Backoff(first_s=1.0, least=1.0, most=2.0)


@dataclass(frozen=True, slots=True)
class CallRetry:
    """A call is tried again on these codes; each attempt has twice the time of the one before."""

    attempts: int = 3
    backoff: Backoff = _BACKOFF
    codes: tuple[Code, ...] = (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)


ORDER_TIMEOUT_S = 6.0
"""For a recording to pause or go on: media that is asked for is waited for 2 s."""
CLIP_TIMEOUT_S = 120.0
"""For a clip to be cut and stored; one that is not stored by then goes on."""
ONCE = CallRetry(attempts=1)
FIRST = ClaimSelection()


@dataclass(frozen=True, slots=True)
class Method(Generic[Req, Res]):
    service: str
    name: str
    request: type[Req]
    response: type[Res]
    selection: ClaimSelection = FIRST
    multi: bool = False
    """Every server answers; nobody claims."""
    queue: bool = False
    """One server sees the request, by a lock on the bus."""
    timeout_s: float = 3.0
    retry: CallRetry = ONCE

    @property
    def claim(self) -> bool:
        return not self.multi

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"


class EgressInternal:
    """Offered by workers; the topic is the cluster id, empty by default."""

    START_EGRESS = Method(
        "EgressInternal",
        "StartEgress",
        StartEgressRequest,
        EgressInfo,
        selection=ClaimSelection(first_wins=False, maximum=1.0, short_circuit_s=0.5, timeout_s=1.0),
        timeout_s=10.0,
        retry=CallRetry(),
    )
    LIST_ACTIVE_EGRESS = Method(
        "EgressInternal", "ListActiveEgress", ListActiveEgressRequest, ListActiveEgressResponse, multi=True
    )
    CLIP = Method("EgressInternal", "Clip", CutRequest, ClipInfo, timeout_s=CLIP_TIMEOUT_S)
    """Ours alone."""


class EgressHandler:
    """Offered by the worker that runs an egress; the topic is the egress id."""

    STOP_EGRESS = Method("EgressHandler", "StopEgress", StopEgressRequest, EgressInfo, queue=True)
    UPDATE_STREAM = Method("EgressHandler", "UpdateStream", UpdateStreamRequest, EgressInfo, queue=True)
    ORDER = Method(
        "EgressHandler", "Order", UpdateLayoutRequest, EgressInfo, queue=True, timeout_s=ORDER_TIMEOUT_S
    )
    """Ours alone: the layout is an order (request.orders). A livekit-server hands those on in the room."""
    ADD_PART = Method("EgressHandler", "AddPart", EgressInfo, Empty, queue=True)
    """Ours alone: what became of a part of the egress that another worker has recorded before."""


class IOInfo:
    """Offered by livekit-server, or by us where the records are ours; no topic."""

    CREATE_EGRESS = Method("IOInfo", "CreateEgress", EgressInfo, Empty, queue=True)
    UPDATE_EGRESS = Method("IOInfo", "UpdateEgress", EgressInfo, Empty, queue=True)
    GET_EGRESS = Method("IOInfo", "GetEgress", GetEgressRequest, EgressInfo, queue=True)
    LIST_EGRESS = Method("IOInfo", "ListEgress", ListEgressRequest, ListEgressResponse, queue=True)
    REVISE_EGRESS = Method("IOInfo", "ReviseEgress", EgressInfo, Empty, queue=True)
    """Ours alone: what an ended record learns of its files. A livekit-server has no such thing, and announces
    every update of an ended record as another end."""
    ADD_PART = Method("IOInfo", "AddPart", EgressInfo, Empty, queue=True)
    """Ours alone: what an egress learns of a part that is not its last one."""
    COUNT_EGRESS = Method("IOInfo", "CountEgress", EgressInfo, Empty, queue=True)
    """Ours alone: what has been recorded so far. A livekit-server would announce it to webhooks."""
    UPDATE_METRICS = Method("IOInfo", "UpdateMetrics", UpdateMetricsRequest, Empty, queue=True)
