"""Finds what a request records: a page, a room laid out by us or by a page, or tracks of a room."""

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
from livekit.protocol.egress import (
    MediaSource,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    TemplateSource,
    TrackCompositeEgressRequest,
    WebEgressRequest,
    WebSource,
)

from openegress.core import plan as parts
from openegress.core.errors import Code, EgressError, invalid, missing_or_invalid
from openegress.core.http_url import is_http
from openegress.core.networks import denying, networks_of
from openegress.core.plan import AudioRoute, ParticipantVideo, TrackVideo
from openegress.core.routes import VideoRoute
from openegress.core.shown_url import redact_page
from openegress.core.text import shown
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.proto.today import today
from openegress.request import audio_routes, layouts, request_kind, track_routes
from openegress.request.context import METADATA_HOSTS, Context
from openegress.request.request_kind import RequestKind


@dataclass(frozen=True, slots=True)
class Subject:
    """What is recorded; outputs are not known yet."""

    source: parts.Source
    identifier: str
    has_audio: bool
    has_video: bool
    values: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    """Notices of what is recorded differently from the request."""
    of_picture: str = ""
    of_sound: str = ""
    """The field that asks for only this kind of media, if there is one."""

    def told(self, *, has_audio: bool, has_video: bool) -> tuple[str, ...]:
        """`notices`, and those of fields that have no effect because no picture or no sound is recorded."""
        missing = [] if has_video else [("picture", self.of_picture)]
        missing += [] if has_audio else [("sound", self.of_sound)]
        return self.notices + tuple(
            f"{name} has no effect: no {what} is recorded" for what, name in missing if name
        )


class Subjects:
    """Reads one request. Every method raises EgressError invalid_argument, which names the wrong field."""

    def __init__(self, request: Request, context: Context, layout: str) -> None:
        """`layout` is that of the request, without options."""
        self.request = request
        self.context = context
        self.layout = layout

    def of_room(self, request: RoomCompositeEgressRequest | TemplateSource) -> Subject:
        room_name = self._room_name
        has_audio, has_video = _media_of(request)
        mixing = request.audio_mixing if isinstance(request, RoomCompositeEgressRequest) else 0
        base_url = request.custom_base_url or self.context.template_base
        source: parts.Source
        notices: tuple[str, ...] = ()
        kind = request_kind.of_room(request, self.context.template_base)
        if kind is RequestKind.ROOM_TRACKS:
            ws_url, token = self._connection()
            insecure = self.context.insecure
            source = parts.TracksSource(room_name, ws_url, token, has_audio, has_video, insecure)
        elif kind is RequestKind.AUDIO_ROOM_COMPOSITE:
            source = self.media(audio=audio_routes.of_mixing(mixing))
            if request.custom_base_url:
                notices = ("custom_base_url has no effect on sound that audio_mixing takes from the room",)
        elif kind is RequestKind.ROOM_COMPOSITE_PAGE:
            routes = audio_routes.of_mixing(mixing) if mixing and has_audio else ()
            source = self._page_of_room(request, base_url, routes)
        else:
            layout = self.layout and layouts.named(self.layout, self.context.layouts)
            if layout != self.layout:
                notices = (layouts.taken_for(self.layout),)
            ws_url, token = self._connection()
            source = parts.LayoutSource(
                room_name=room_name,
                layout=layout,
                ws_url=ws_url,
                token=token,
                audio=audio_routes.of_mixing(mixing) if has_audio else (),
                insecure=self.context.insecure,
                specs=self.context.layouts,
            )
        # A page gets the layout in any case.
        has_layout = self.layout and kind is not RequestKind.ROOM_COMPOSITE_PAGE
        return Subject(
            source,
            room_name,
            has_audio,
            has_video,
            notices=notices,
            of_picture="layout" if has_layout else "",
            of_sound="audio_mixing" if mixing else "",
        )

    def _page_of_room(
        self,
        request: RoomCompositeEgressRequest | TemplateSource,
        base_url: str,
        routes: tuple[AudioRoute, ...],
    ) -> parts.TemplateSource:
        if not is_http(base_url):
            raise missing_or_invalid("template base url")
        if request.custom_base_url:
            self._check_address(base_url, "template base url")
        ws_url, token = self._connection()
        return parts.TemplateSource(
            room_name=self._room_name,
            base_url=base_url,
            layout=self.layout,
            ws_url=ws_url,
            token=token,
            is_trusted=not request.custom_base_url,
            sound=self._sound_beside(routes) if routes else None,
        )

    def _sound_beside(self, routes: tuple[AudioRoute, ...]) -> parts.MediaSource:
        """The sound for a page in the same room. The page has the request's token: a second participant with
        the same identity would replace the first."""
        if self.context.make_token is None:
            raise EgressError(
                Code.FAILED_PRECONDITION,
                "audio_mixing of a page needs api_key and api_secret in this server's configuration: a second"
                " participant records the sound, and the request has no token for it",
            )
        token = self.context.make_token(f"{self.request.egress_id}_sound", self._room_name)
        return msgspec.structs.replace(self.media(audio=routes), token=token)

    def of_web(self, request: WebEgressRequest | WebSource) -> Subject:
        if not is_http(request.url):
            raise missing_or_invalid("web url")
        self._check_address(request.url, "web url")
        has_audio, has_video = _media_of(request)
        source = parts.WebSource(url=request.url, await_start_signal=request.await_start_signal)
        return Subject(source, "web", has_audio, has_video)

    def of_participant(self, request: ParticipantEgressRequest) -> Subject:
        if not request.identity:
            raise missing_or_invalid("identity")
        source = self.media(
            video=ParticipantVideo(identity=request.identity, prefer_screen_share=request.screen_share),
            audio=(AudioRoute(match="participant", value=request.identity),),
            participant_identity=request.identity,
        )
        values = {"publisher_identity": request.identity}
        return Subject(source, request.identity, True, True, values)

    def of_track_composite(self, request: TrackCompositeEgressRequest) -> Subject:
        audio_id, video_id = request.audio_track_id, request.video_track_id
        if not audio_id and not video_id:
            raise missing_or_invalid("audio_track_id or video_track_id")
        source = self.media(
            video=TrackVideo(track_id=video_id) if video_id else None,
            audio=(AudioRoute(match="track", value=audio_id),) if audio_id else (),
        )
        return Subject(
            source,
            self._room_name,
            bool(audio_id),
            bool(video_id),
            of_picture="video_track_id" if video_id else "",
            of_sound="audio_track_id" if audio_id else "",
        )

    def of_media_source(self, media: MediaSource) -> Subject:
        """The subject of v2 media that is encoded."""
        video, values = _video_of(media)
        audio = audio_routes.of_config(media.audio) if media.HasField("audio") else ()
        if video is None and not audio:
            alone = " (data alone goes into a file of file_type MCAP)" if track_routes.data_of(media) else ""
            raise missing_or_invalid(f"audio or video{alone}")
        source = self.media(video=video, audio=audio)
        return Subject(
            source,
            self._room_name,
            bool(audio),
            video is not None,
            values,
            notices=audio_routes.without_channel(media.audio),
            of_picture=f"media.{media.WhichOneof('video')}" if video else "",
            of_sound="media.audio" if audio else "",
        )

    def of_media_tracks(self, media: MediaSource) -> Subject:
        """The subject of v2 media whose tracks are recorded separately."""
        videos, (video, values) = track_routes.videos_of(media), _video_of(media)
        audio = audio_routes.of_config(media.audio) if media.HasField("audio") else ()
        has_video = bool(video or videos)
        if not (has_video or audio or track_routes.data_of(media)):
            raise missing_or_invalid("audio, video or data")
        chosen = self.media(video=video, videos=videos, audio=audio)
        insecure = self.context.insecure
        source = parts.TracksSource(
            self._room_name, chosen.ws_url, chosen.token, bool(audio), has_video, insecure, chosen
        )
        return Subject(source, self._room_name, bool(audio), has_video, values)

    def media(
        self,
        video: TrackVideo | ParticipantVideo | None = None,
        videos: tuple[VideoRoute, ...] = (),
        audio: tuple[AudioRoute, ...] = (),
        single_track_id: str = "",
        participant_identity: str = "",
    ) -> parts.MediaSource:
        _check_kinds(video, videos, audio)
        ws_url, token = self._connection()
        return parts.MediaSource(
            room_name=self._room_name,
            ws_url=ws_url,
            token=token,
            video=video,
            videos=videos,
            audio=audio,
            single_track_id=single_track_id,
            participant_identity=participant_identity,
            insecure=self.context.insecure,
        )

    @property
    def _room_name(self) -> str:
        name = request_kind.room_of(self.request)
        if not name:
            raise missing_or_invalid("room_name")
        return name

    def _connection(self) -> tuple[str, str]:
        """The LiveKit URL and the token: the request's, else the server's own."""
        token = self.request.token
        if not token:
            if self.context.make_token is None:
                raise missing_or_invalid("token or api key/secret")
            token = self.context.make_token(self.request.egress_id, self._room_name)
        ws_url = self.request.ws_url or self.context.ws_url
        if not ws_url:
            raise missing_or_invalid("ws_url")
        return ws_url, token

    def _check_address(self, url: str, field_name: str) -> None:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
        denied = bool(self.context.deny_networks) and host in METADATA_HOSTS
        try:
            address = ipaddress.ip_address(host)
            denied = denied or denying(address, networks_of(self.context.deny_networks)) is not None
        except ValueError:
            pass  # a name, which the browser resolves and checks
        if denied:
            raise invalid(f"{field_name} {redact_page(url)}: this server does not open {host}")


def _media_of(
    request: RoomCompositeEgressRequest | TemplateSource | WebEgressRequest | WebSource,
) -> tuple[bool, bool]:
    """Whether sound and whether pictures are recorded."""
    if request.audio_only and request.video_only:
        raise missing_or_invalid("audio_only and video_only")
    return not request.video_only, not request.audio_only


def _check_kinds(
    video: TrackVideo | ParticipantVideo | None, videos: tuple[VideoRoute, ...], audio: tuple[AudioRoute, ...]
) -> None:
    """Raises EgressError if a track is wanted as a picture and as sound: half of the recording would be
    missing."""
    pictures = {video.track_id} if isinstance(video, TrackVideo) else set[str]()
    pictures |= {each.value for each in videos if each.match == "track" and not each.exclude}
    sounds = {each.value for each in audio if each.match == "track" and not each.exclude}
    if both := sorted(pictures & sounds):
        raise invalid(f"the track {shown(both[0])!r} is asked for as audio and as video, and is one of them")


def _video_of(media: MediaSource) -> tuple[TrackVideo | ParticipantVideo | None, dict[str, str]]:
    """The only picture that the source names, and its values for names of files."""
    match media.WhichOneof("video"):
        case "video_track_id":
            if not media.video_track_id:
                raise missing_or_invalid("video_track_id")
            return TrackVideo(track_id=media.video_track_id), {}
        case "participant_video":
            identity = media.participant_video.identity
            if not identity:
                raise missing_or_invalid("identity")
            prefer = media.participant_video.prefer_screen_share
            video = ParticipantVideo(identity=identity, prefer_screen_share=prefer)
            return video, {"publisher_identity": identity}
        case _:
            return None, {}


def narrowed(source: parts.Source, has_audio: bool, has_video: bool) -> parts.Source:
    """`source` without the media that no output takes, so that its tracks are not subscribed to."""
    if isinstance(source, parts.TemplateSource):
        return source if has_audio else msgspec.structs.replace(source, sound=None)
    if not isinstance(source, parts.MediaSource):
        return source
    return msgspec.structs.replace(
        source,
        audio=source.audio if has_audio else (),
        video=source.video if has_video else None,
    )


def single_track(media: MediaSource) -> str:
    """The only track of a PASSTHROUGH request. Raises EgressError for what remuxing cannot do."""
    newest = today(media)
    if newest.WhichOneof("video") == "videos":
        raise missing_or_invalid("passthrough videos (they are stored as they are without a preset)")
    if newest.HasField("data"):
        raise missing_or_invalid("passthrough data")
    video_id = audio_id = ""
    match media.WhichOneof("video"):
        case "video_track_id":
            if not media.video_track_id:
                raise missing_or_invalid("passthrough video_track_id")
            video_id = media.video_track_id
        case "participant_video":
            raise missing_or_invalid("passthrough participant_video")
    if media.audio.capture_all:
        raise missing_or_invalid("passthrough capture_all")
    if len(media.audio.routes) > 1:
        raise missing_or_invalid("passthrough audio routes")
    for route in today(media.audio).routes:
        if route.exclude:
            raise missing_or_invalid("passthrough audio route exclude")
        if route.track_name:
            raise missing_or_invalid("passthrough audio route track_name")
        if route.WhichOneof("match") != "track_id":
            raise missing_or_invalid("passthrough audio route match")
        if not route.track_id:
            raise missing_or_invalid("passthrough audio route track_id")
        audio_id = route.track_id
    if bool(video_id) == bool(audio_id):
        raise missing_or_invalid("passthrough track_id")
    return video_id or audio_id
