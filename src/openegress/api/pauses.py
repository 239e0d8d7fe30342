"""Which egresses can be paused, and which are: what the API says before and after it has asked."""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.errors import Code, EgressError
from openegress.core.info import is_paused
from openegress.request.pausing import PauseOrder
from openegress.request.request_kind import records_tracks, room_request


def is_done(order: PauseOrder, info: EgressInfo) -> bool:
    return is_paused(info) is (order is PauseOrder.PAUSE)


def refuse_unsuited(info: EgressInfo, *, own_template: bool) -> None:
    """Raises EgressError: UNIMPLEMENTED for a request whose recording cannot be paused, FAILED_PRECONDITION
    for one that does not record now.

    `own_template`: rooms whose request names no page are laid out by one all the same.
    """
    kind = info.WhichOneof("request")
    room = room_request(info)
    if room is not None and records_tracks(room, own_template=own_template):
        raise _unimplemented("tracks that are stored as they come")
    match kind:
        case "room_composite" if not info.room_composite.audio_only:
            if info.room_composite.custom_base_url or own_template:
                raise _unimplemented("a room that a web page lays out")
        case "participant" | "track_composite":
            if getattr(info, kind).WhichOneof("options") is None:
                raise _unimplemented(f"a {kind.replace('_', ' ')} egress that names no preset or encoding")
        case "egress" if info.egress.HasField("template") and not info.egress.template.audio_only:
            if info.egress.template.custom_base_url or own_template:
                raise _unimplemented("a room that a web page lays out")
        case "room_composite" | "egress":
            raise _unimplemented("a recording without pictures of a room")
        case _:
            raise _unimplemented(f"a {(kind or 'request').replace('_', ' ')} egress")
    if info.segment_results or info.stream_results or info.image_results or not info.file_results:
        raise _unimplemented("an egress with segments, streams or images")
    if info.status != EgressStatus.EGRESS_ACTIVE:
        status = EgressStatus.Name(info.status)
        raise EgressError(
            Code.FAILED_PRECONDITION, f"egress with status {status} cannot be paused or resumed"
        )


def _unimplemented(what: str) -> EgressError:
    return EgressError(
        Code.UNIMPLEMENTED,
        f"pause of {what} is not supported; encoded files of rooms, participants and tracks can be paused",
    )
