"""Which egresses can be paused: what the API says before it asks them."""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.request_kind import RequestKind, request_kind


def refuse_unsuited(info: EgressInfo, *, template_base: str) -> None:
    """Raises EgressError: UNIMPLEMENTED for a request whose recording cannot be paused, FAILED_PRECONDITION
    for one that does not record now. `template_base`: the server's own."""
    body = info.WhichOneof("request") or "room_composite"
    kind = request_kind(StartEgressRequest(**{body: getattr(info, body)}), template_base)
    if kind is RequestKind.ROOM_TRACKS:
        raise EgressError(
            Code.UNIMPLEMENTED,
            "pause of a recording of all tracks is not supported; record the room in a layout, or its"
            " participants or tracks each for itself",
        )
    if info.status != EgressStatus.EGRESS_ACTIVE:
        status = EgressStatus.Name(info.status)
        raise EgressError(
            Code.FAILED_PRECONDITION, f"egress with status {status} cannot be paused or resumed"
        )
