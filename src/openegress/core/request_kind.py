"""What kind of work a request is: what it costs, and which room it is about."""

from enum import StrEnum

from livekit.protocol.egress import RoomCompositeEgressRequest, StartEgressRequest, TemplateSource

from openegress.core.encoding import PASSTHROUGH
from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request


class RequestKind(StrEnum):
    """What an egress costs depends on this; the values are the keys of the configuration."""

    ROOM_COMPOSITE = "room_composite"
    AUDIO_ROOM_COMPOSITE = "audio_room_composite"
    WEB = "web"
    AUDIO_WEB = "audio_web"
    PARTICIPANT = "participant"
    TRACK_COMPOSITE = "track_composite"
    TRACK = "track"


def request_kind(request: Request) -> RequestKind:
    """What kind of work a request is, for admission. Raises EgressError for one without a request."""
    match request.WhichOneof("request"):
        case "room_composite":
            return of_room(request.room_composite)
        case "web":
            return RequestKind.AUDIO_WEB if request.web.audio_only else RequestKind.WEB
        case "participant":
            return RequestKind.PARTICIPANT
        case "track_composite":
            return RequestKind.TRACK_COMPOSITE
        case "track":
            return RequestKind.TRACK
        case "egress":
            return _v2_kind(request.egress)
        case "replay":
            raise unimplemented("exporting a replay")
        case _:
            raise missing_or_invalid("request")


def of_room(request: RoomCompositeEgressRequest | TemplateSource) -> RequestKind:
    without_browser = request.audio_only and not request.custom_base_url
    return RequestKind.AUDIO_ROOM_COMPOSITE if without_browser else RequestKind.ROOM_COMPOSITE


def _v2_kind(request: StartEgressRequest) -> RequestKind:
    match request.WhichOneof("source"):
        case "template":
            return of_room(request.template)
        case "web":
            return RequestKind.AUDIO_WEB if request.web.audio_only else RequestKind.WEB
        case "media":
            if request.preset == PASSTHROUGH:
                return RequestKind.TRACK
            match request.media.WhichOneof("video"):
                case "participant_video":
                    return RequestKind.PARTICIPANT
                case "video_track_id":
                    return RequestKind.TRACK_COMPOSITE
                case _:
                    return RequestKind.AUDIO_ROOM_COMPOSITE
        case _:
            raise missing_or_invalid("source")


def room_of(request: Request) -> str:
    """The room a request is about; "" for a web page."""
    body = request.WhichOneof("request")
    if body in (None, "web", "replay"):
        return request.room_name
    name: str = getattr(request, body).room_name
    return name or request.room_name
