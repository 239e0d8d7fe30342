"""Lists the services that livekit-server and its egress workers offer each other, as a table of methods."""

from dataclasses import dataclass
from enum import Enum, auto
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
    """How often a call is retried after errors with these codes. Each attempt doubles the time-out."""

    attempts: int = 3
    backoff: Backoff = _BACKOFF
    codes: tuple[Code, ...] = (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)


ORDER_TIMEOUT_S = 6.0
"""Time-out for an order: a recording that resumes waits up to 2 s for its media."""
CLIP_TIMEOUT_S = 120.0
"""Limit for cutting and storing a clip. The worker continues a clip that takes longer."""
ONCE = CallRetry(attempts=1)
FIRST = ClaimSelection()


class Routing(Enum):
    """Which servers get a request and answer it (psrpc's options of a method)."""

    CLAIMED = auto()
    """All servers get the request. Those that want it claim it, and the client chooses one."""
    QUEUED = auto()
    """One server gets the request, by a lock on the bus, and claims it."""
    BROADCAST = auto()
    """All servers get the request and answer without a claim ("multi")."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Req, Res]):
    """One method of a service. A call ends after `timeout_s` without an answer."""

    service: str
    name: str
    request: type[Req]
    response: type[Res]
    selection: ClaimSelection = FIRST
    routing: Routing = Routing.CLAIMED
    timeout_s: float = 3.0
    retry: CallRetry = ONCE

    @property
    def is_claimed(self) -> bool:
        return self.routing is not Routing.BROADCAST

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"


class EgressInternal:
    """The service of workers; the topic is the cluster id, empty by default."""

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
        "EgressInternal",
        "ListActiveEgress",
        ListActiveEgressRequest,
        ListActiveEgressResponse,
        routing=Routing.BROADCAST,
    )
    CLIP = Method("EgressInternal", "Clip", CutRequest, ClipInfo, timeout_s=CLIP_TIMEOUT_S)
    """Makes a clip. Not part of LiveKit's protocol."""


class EgressHandler:
    """The service of the worker that runs an egress; the topic is the egress id."""

    STOP_EGRESS = Method("EgressHandler", "StopEgress", StopEgressRequest, EgressInfo, routing=Routing.QUEUED)
    UPDATE_STREAM = Method(
        "EgressHandler", "UpdateStream", UpdateStreamRequest, EgressInfo, routing=Routing.QUEUED
    )
    ORDER = Method(
        "EgressHandler",
        "Order",
        UpdateLayoutRequest,
        EgressInfo,
        routing=Routing.QUEUED,
        timeout_s=ORDER_TIMEOUT_S,
    )
    """Delivers an order. Not part of LiveKit's protocol. The layout is an order (request.orders), or empty,
    which asks whether there is a recorder that could obey one. A livekit-server has no such method, and its
    orders reach the recorder in the room."""
    ADD_PART = Method("EgressHandler", "AddPart", EgressInfo, Empty, routing=Routing.QUEUED)
    """Delivers the results of a part that another worker recorded before. Not part of LiveKit's protocol."""


class IOInfo:
    """The service of livekit-server, or of openegress if it keeps the records itself. It has no topic."""

    CREATE_EGRESS = Method("IOInfo", "CreateEgress", EgressInfo, Empty, routing=Routing.QUEUED)
    UPDATE_EGRESS = Method("IOInfo", "UpdateEgress", EgressInfo, Empty, routing=Routing.QUEUED)
    GET_EGRESS = Method("IOInfo", "GetEgress", GetEgressRequest, EgressInfo, routing=Routing.QUEUED)
    LIST_EGRESS = Method(
        "IOInfo", "ListEgress", ListEgressRequest, ListEgressResponse, routing=Routing.QUEUED
    )
    REVISE_EGRESS = Method("IOInfo", "ReviseEgress", EgressInfo, Empty, routing=Routing.QUEUED)
    """Adds stored files to an ended record. Not part of LiveKit's protocol: a livekit-server would report any
    update of an ended record to webhooks as another end."""
    ADD_PART = Method("IOInfo", "AddPart", EgressInfo, Empty, routing=Routing.QUEUED)
    """Delivers the results of a part of an egress that is not its last one. Not part of LiveKit's
    protocol."""
    COUNT_EGRESS = Method("IOInfo", "CountEgress", EgressInfo, Empty, routing=Routing.QUEUED)
    """Reports what has been recorded so far. Not part of LiveKit's protocol: a livekit-server would report it
    to webhooks."""
    UPDATE_METRICS = Method("IOInfo", "UpdateMetrics", UpdateMetricsRequest, Empty, routing=Routing.QUEUED)
