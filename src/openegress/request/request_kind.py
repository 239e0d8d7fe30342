"""Finds what kind of work a request is, which decides its cost, and which room it is for."""

from enum import StrEnum

from livekit.protocol.egress import (
    EgressInfo,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    TemplateSource,
)

from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.proto.today import today
from openegress.request import layouts
from openegress.request.encoding import PASSTHROUGH
from openegress.request.outputs import is_mcap


class RequestKind(StrEnum):
    """The kind of an egress, which decides its cost."""

    ROOM_COMPOSITE = "room_composite"
    """A room that is laid out here."""
    ROOM_COMPOSITE_PAGE = "room_composite_page"
    """A room that is laid out by a page in a browser."""
    AUDIO_ROOM_COMPOSITE = "audio_room_composite"
    ROOM_TRACKS = "room_tracks"
    """A room whose tracks are recorded separately."""
    WEB = "web"
    AUDIO_WEB = "audio_web"
    PARTICIPANT = "participant"
    TRACK_COMPOSITE = "track_composite"
    TRACK = "track"

    @property
    def needs_browser(self) -> bool:
        return self in (RequestKind.ROOM_COMPOSITE_PAGE, RequestKind.WEB, RequestKind.AUDIO_WEB)


REQUEST_TYPES = (
    "room_composite",
    "web",
    "participant",
    "track_composite",
    "track",
    "template",
    "media",
    "unknown",
)
"""Names of requests in upstream's metrics."""


def request_type(info: EgressInfo) -> str:
    """The name of the request, one of REQUEST_TYPES."""
    body = info.WhichOneof("request")
    if body in ("egress", "replay"):
        request = getattr(info, body)
        return "track" if request.preset == PASSTHROUGH else request.WhichOneof("source") or "unknown"
    return body or "unknown"


def request_kind(request: Request, template_base: str = "") -> RequestKind:
    """The kind of work, for admission. `template_base` is the server's own, as in Context. Raises EgressError
    for a message without a request."""
    match request.WhichOneof("request"):
        case "room_composite":
            return of_room(request.room_composite, template_base)
        case "web":
            return RequestKind.AUDIO_WEB if request.web.audio_only else RequestKind.WEB
        case "participant":
            return RequestKind.PARTICIPANT
        case "track_composite":
            return RequestKind.TRACK_COMPOSITE
        case "track":
            return RequestKind.TRACK
        case "egress":
            return _v2_kind(request.egress, template_base)
        case "replay":
            raise unimplemented("exporting a replay")
        case _:
            raise missing_or_invalid("request")


def of_room(request: RoomCompositeEgressRequest | TemplateSource, template_base: str) -> RequestKind:
    if records_tracks(request, own_template=bool(template_base)):
        return RequestKind.ROOM_TRACKS
    mixed_here = isinstance(request, RoomCompositeEgressRequest) and request.audio_mixing
    if request.audio_only and (mixed_here or not request.custom_base_url):
        return RequestKind.AUDIO_ROOM_COMPOSITE
    if request.custom_base_url or template_base:
        return RequestKind.ROOM_COMPOSITE_PAGE
    return RequestKind.ROOM_COMPOSITE


def room_request(info: EgressInfo) -> RoomCompositeEgressRequest | TemplateSource | None:
    """The layout in a record of a room composite; None: the record is of something else."""
    match info.WhichOneof("request"):
        case "room_composite":
            return info.room_composite
        case "egress" if info.egress.HasField("template"):
            return info.egress.template
        case _:
            return None


def records_tracks(request: RoomCompositeEgressRequest | TemplateSource, *, own_template: bool) -> bool:
    """Whether the layout asks for tracks. A page, of the request or of the server (`own_template`), has its
    own layouts."""
    is_named = request.layout.partition("?")[0] == layouts.TRACKS
    return is_named and not (request.custom_base_url or own_template)


def media_in_tracks(request: StartEgressRequest) -> bool:
    """Whether the tracks of the request's media source go into one file separately: several pictures do, and
    everything in an MCAP."""
    if request.WhichOneof("source") != "media" or request.preset == PASSTHROUGH:
        return False
    files = [each.file for each in request.outputs if each.WhichOneof("config") == "file"]
    return today(request.media).WhichOneof("video") == "videos" or any(map(is_mcap, files))


def _v2_kind(request: StartEgressRequest, template_base: str) -> RequestKind:
    match request.WhichOneof("source"):
        case "template":
            return of_room(request.template, template_base)
        case "web":
            return RequestKind.AUDIO_WEB if request.web.audio_only else RequestKind.WEB
        case "media":
            if request.preset == PASSTHROUGH:
                return RequestKind.TRACK
            if media_in_tracks(request):
                return RequestKind.ROOM_TRACKS
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
    """The room that a request is for; "" for a web page."""
    body = request.WhichOneof("request")
    if body in (None, "web", "replay"):
        return request.room_name
    name: str = getattr(request, body).room_name
    return name or request.room_name
