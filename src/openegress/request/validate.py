"""A request becomes a plan here, or a refusal that says which field is wrong and why."""

from typing import TypeVar

import msgspec
from livekit.protocol.egress import (
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    TemplateSource,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    WebEgressRequest,
)

from openegress.core import plan as parts
from openegress.core.codecs import Container, VideoCodec
from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.core.ids import check_egress_id
from openegress.core.looks import Looks, PictureFiles
from openegress.core.plan import Limits, ParticipantVideo, Plan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.proto.today import today
from openegress.request import encoding, naming, outputs, requested, room_tracks, stream_urls, unknown
from openegress.request.asked_options import asked_options
from openegress.request.context import Context, SessionLimits
from openegress.request.encoding import Wish
from openegress.request.request_kind import RequestKind, records_tracks, request_kind, room_of
from openegress.request.requested import FileWish, RequestedOutputs
from openegress.request.subjects import Subject, Subjects, single_track

Live = TypeVar("Live", parts.StreamOutput, parts.WebsocketOutput)

__all__ = ["Context", "RequestKind", "SessionLimits", "plan_of", "request_kind", "room_of"]


def plan_of(request: Request, context: Context) -> Plan:
    """The plan that carries out `request`. Raises EgressError with the field that is wrong."""
    check_egress_id(request.egress_id)
    body = request.WhichOneof("request")
    found = list(unknown.in_message(today(getattr(request, body)))) if body else []
    told = unknown.notices([each for each in found if not each.value], context.unknown_fields)
    plan = _Planner(request, context).plan()
    # After it: what is wrong with the values that it reads, it says in upstream's words.
    unknown.notices([each for each in found if each.value], context.unknown_fields)
    return msgspec.structs.replace(plan, notices=told + plan.notices)


class _Planner:
    """One request on its way to a plan."""

    def __init__(self, request: Request, context: Context) -> None:
        self.request = request
        self.context = context
        self.options = asked_options(request, context)
        self.subjects = Subjects(request, context, self.options.layout)

    def plan(self) -> Plan:
        match self.request.WhichOneof("request"):
            case "room_composite":
                room = self.request.room_composite
                wish, wanted = _wish(room), requested.of_encoded(room)
                if self._records_tracks(room):
                    return self._tracks(room, wish, wanted)
                return self._encoded(self.subjects.of_room(room), wish, wanted)
            case "web":
                web = self.request.web
                return self._encoded(self.subjects.of_web(web), _wish(web), requested.of_encoded(web))
            case "participant":
                participant = self.request.participant
                subject = self.subjects.of_participant(participant)
                return self._encoded(subject, _wish(participant), requested.of_encoded(participant))
            case "track_composite":
                composite = self.request.track_composite
                subject = self.subjects.of_track_composite(composite)
                return self._encoded(subject, _wish(composite), requested.of_encoded(composite))
            case "track":
                return self._track(self.request.track)
            case "egress":
                return self._v2(self.request.egress)
            case "replay":
                raise unimplemented("exporting a replay")
            case _:
                raise missing_or_invalid("request")

    def _v2(self, request: StartEgressRequest) -> Plan:
        wish = _wish(request)
        if request.HasField("template") and self._records_tracks(request.template):
            return self._tracks(request.template, wish, requested.of_v2(request))
        if wish.passthrough:
            return self._passed_through(request)
        match request.WhichOneof("source"):
            case "template":
                subject = self.subjects.of_room(request.template)
            case "web":
                subject = self.subjects.of_web(request.web)
            case "media":
                subject = self.subjects.of_media_source(request.media)
            case _:
                raise missing_or_invalid("source")
        return self._encoded(subject, wish, requested.of_v2(request))

    def _records_tracks(self, request: RoomCompositeEgressRequest | TemplateSource) -> bool:
        return records_tracks(request, own_template=bool(self.context.template_base))

    def _tracks(
        self, request: RoomCompositeEgressRequest | TemplateSource, wish: Wish, wanted: RequestedOutputs
    ) -> Plan:
        file = room_tracks.file_of(wanted)
        subject = self.subjects.of_room(request)
        container = room_tracks.container_of(
            file, audio_only=request.audio_only, video_only=request.video_only
        )
        source = subject.source
        if container is Container.MKA:
            source = msgspec.structs.replace(source, video=False)
        output = outputs.file_output(file, container, self._naming(subject, (0, 0)))
        told = room_tracks.notices(request, wish, container)
        return self._plan(source, (output,), None, None, values={}, passthrough=True, notices=told)

    def _encoded(self, subject: Subject, wish: Wish, wanted: RequestedOutputs) -> Plan:
        if wish.passthrough:
            raise missing_or_invalid("preset")
        has_audio, has_video = subject.has_audio, subject.has_video
        if wanted.images and not has_video:
            raise missing_or_invalid("audio_only images")
        if wanted.websockets and not has_audio:
            raise missing_or_invalid("video_only websocket")
        if wanted.only_images:
            has_audio = False
        if wanted.only_websockets:
            has_video = False
        is_media = isinstance(subject.source, parts.MediaSource)
        looks = self.options.looks(subject.source, self.context.pictures, is_drawn=has_video)
        may_pass = is_media and not wish.asked and _tracks_only(subject.source) and not looks.draws_over
        others = _containers(wanted)
        streamed = wanted.stream is not None
        against_webm = encoding.against_webm(
            wish, has_audio=has_audio, file=None, others=others, streamed=streamed
        )
        codec = wish.video_codec if has_video else None
        file = _file_container(wanted.file, codec, fits_webm=not against_webm) if wanted.file else None
        formats = encoding.choose(
            wish,
            has_audio=has_audio,
            has_video=has_video,
            file=file,
            default_file=wanted.file is not None and file is None,
            others=others,
            streamed=streamed,
        )
        segment_s = outputs.segment_seconds(wanted.segments) if wanted.segments else 0
        video = encoding.video_encoding(wish, formats.video, segment_s, streamed) if formats.video else None
        encodes_audio = formats.audio is not None and not wanted.only_websockets
        audio = encoding.audio_encoding(wish, formats.audio) if encodes_audio and formats.audio else None
        size = (0, 0) if is_media else (wish.width, wish.height)
        return self._plan(
            _narrowed(subject.source, has_audio, has_video),
            self._outputs(wanted, formats.file, self._naming(subject, size)),
            video,
            audio,
            values=subject.values,
            may_pass_through=may_pass,
            looks=looks,
            notices=wish.notices + formats.notices + subject.notices,
        )

    def _outputs(
        self, wanted: RequestedOutputs, container: Container | None, names: outputs.Naming
    ) -> tuple[parts.Output, ...]:
        found: list[parts.Output] = []
        if wanted.file:
            found.append(outputs.file_output(wanted.file, container, names))
        if wanted.segments:
            found.append(outputs.segment_output(wanted.segments, names))
        found.extend(outputs.image_output(images, names) for images in wanted.images)
        if wanted.stream:
            found.append(self._bounded(wanted.stream))
        found.extend(self._bounded(websocket) for websocket in wanted.websockets)
        return tuple(found)

    def _track(self, request: TrackEgressRequest) -> Plan:
        if not request.track_id:
            raise missing_or_invalid("track_id")
        source = self.subjects.media(single_track_id=request.track_id)
        match request.WhichOneof("output"):
            case "file":
                return self._single_track(source, FileWish(request.file, (request.file,)))
            case "websocket_url":
                output = self._bounded(stream_urls.websocket(request.websocket_url))
                return self._plan(source, (output,), None, None, values={"track_id": request.track_id})
            case _:
                raise missing_or_invalid("output")

    def _passed_through(self, request: StartEgressRequest) -> Plan:
        """v2 preset PASSTHROUGH: one track into one file whose type is the track's."""
        if request.WhichOneof("source") != "media":
            raise missing_or_invalid("passthrough source")
        track_id = single_track(request.media)
        if len(request.outputs) != 1:
            raise missing_or_invalid("passthrough outputs")
        if request.outputs[0].WhichOneof("config") != "file":
            raise missing_or_invalid("passthrough output")
        if request.outputs[0].file.file_type:
            raise missing_or_invalid("passthrough file_type")
        wanted = requested.of_v2(request)
        assert wanted.file is not None  # its only output is a file
        notices = ("the channel of an audio route has no effect with PASSTHROUGH",)
        has_channel = any(route.channel for route in request.media.audio.routes)
        source = self.subjects.media(single_track_id=track_id)
        return self._single_track(source, wanted.file, notices if has_channel else ())

    def _single_track(self, source: parts.MediaSource, wish: FileWish, notices: tuple[str, ...] = ()) -> Plan:
        track_id = source.single_track_id
        values = {"track_id": track_id}
        subject = Subject(source, track_id, False, False, values)
        output = outputs.file_output(wish, None, self._naming(subject, (0, 0)))
        return self._plan(source, (output,), None, None, values=values, passthrough=True, notices=notices)

    def _bounded(self, output: Live) -> Live:
        return msgspec.structs.replace(output, deny_networks=self.context.deny_networks)

    def _naming(self, subject: Subject, size: tuple[int, int]) -> outputs.Naming:
        return outputs.Naming(
            identifier=subject.identifier,
            values=self._values() | subject.values,
            storage=self.context.storage,
            assume_role=self.context.assume_role,
            allow_local=self.context.allow_local,
            deny_networks=self.context.deny_networks,
            retry_count=self.request.retry_count,
            sized=size,
            distinct=self.context.distinct,
            egress_id=self.request.egress_id,
        )

    def _values(self) -> dict[str, str]:
        values = naming.time_values(self.context.now_ns, self.context.zone)
        if self.request.retry_count > 0:
            values["retry"] = str(self.request.retry_count)
        if room_name := room_of(self.request):
            values["room_name"] = room_name
            values["room_id"] = self.request.room_id
        return values

    def _plan(
        self,
        source: parts.Source,
        found: tuple[parts.Output, ...],
        video: parts.VideoEncoding | None,
        audio: parts.AudioEncoding | None,
        *,
        values: dict[str, str],
        passthrough: bool = False,
        may_pass_through: bool = False,
        looks: Looks | None = None,
        notices: tuple[str, ...] = (),
    ) -> Plan:
        """`looks`: None where nothing is drawn here."""
        split = self.options.split(found)
        plan = Plan(
            egress_id=self.request.egress_id,
            source=source,
            outputs=split,
            video=self.options.speed(video),
            audio=audio,
            passthrough=passthrough,
            may_pass_through=may_pass_through,
            room_id=self.request.room_id,
            room_name=room_of(self.request),
            name_values=self._values() | values,
            limits=_limits(found, self.context.limits),
            recorded=self.options.recorded(source),
            looks=looks or self.options.looks(source, self.context.pictures, is_drawn=False),
            pictures=self.context.pictures if looks is not None else PictureFiles(),
            sidecars=self.options.sidecars(source, found),
            data_topics=self.options.data_topics,
            on_pause=self.options.on_pause(found),
            resumes=self.options.resumes(split),
            notices=notices + self.options.notices,
        )
        return msgspec.structs.replace(plan, end_rules=self.options.end_rules(plan))


def _wish(
    request: RoomCompositeEgressRequest
    | WebEgressRequest
    | ParticipantEgressRequest
    | TrackCompositeEgressRequest
    | StartEgressRequest,
) -> Wish:
    match (
        request.WhichOneof("encoding")
        if isinstance(request, StartEgressRequest)
        else request.WhichOneof("options")
    ):
        case "preset":
            return encoding.from_preset(request.preset)
        case "advanced":
            return encoding.from_options(request.advanced)
        case _:
            return Wish()


def _tracks_only(source: parts.Source) -> bool:
    """Whether it names at most one audio and one video track, which may be taken as they are."""
    if not isinstance(source, parts.MediaSource) or isinstance(source.video, ParticipantVideo):
        return False
    return len(source.audio) <= 1 and all(
        route.match == "track" and route.channel == "both" and not route.track_name for route in source.audio
    )


def _file_container(wish: FileWish, codec: VideoCodec | None, *, fits_webm: bool) -> Container | None:
    """What the request says of its file's type; None: nothing, and codecs decide. `codec` is the one that is
    asked for; `fits_webm`: nothing else of the request keeps it from being a WebM."""
    asked = getattr(wish.file, "file_type", 0)
    if asked == outputs.MCAP:
        raise unimplemented("file_type MCAP without layout tracks")
    if asked:
        container = outputs.FILE_CONTAINERS.get(asked)
        if container is None:
            raise missing_or_invalid("file_type")
        return container
    # The API has no name for WebM: a path may ask for it.
    path = wish.file.filepath.lower()
    if path.endswith(".webm") and fits_webm and codec in (None, VideoCodec.VP8):
        return Container.WEBM
    # A codec moves a file that is named otherwise, as ever; VP8 only one whose name leaves that open.
    if path.endswith(".mp4") and codec is VideoCodec.VP8:
        return Container.MP4
    return None


def _containers(wanted: RequestedOutputs) -> list[Container]:
    found: list[Container] = []
    if wanted.segments:
        found.append(outputs.segment_container(wanted.segments))
    if wanted.stream:
        found.append(Container.FLV if wanted.stream.protocol == "rtmp" else Container.TS)
    return found


def _narrowed(source: parts.Source, has_audio: bool, has_video: bool) -> parts.Source:
    """Tracks that no output takes are not subscribed to."""
    if isinstance(source, parts.TemplateSource):
        return source if has_audio else msgspec.structs.replace(source, sound=None)
    if not isinstance(source, parts.MediaSource):
        return source
    return msgspec.structs.replace(
        source,
        audio=source.audio if has_audio else (),
        video=source.video if has_video else None,
    )


def _limits(found: tuple[parts.Output, ...], limits: SessionLimits) -> Limits:
    """The shortest limit among the kinds of output there are."""
    durations: list[float] = []
    file_bytes = 0
    for output in found:
        match output:
            case parts.FileOutput():
                durations.append(limits.file_s)
                file_bytes = limits.file_bytes
            case parts.SegmentOutput():
                durations.append(limits.segments_s)
            case parts.ImageOutput():
                durations.append(limits.images_s)
            case parts.StreamOutput() | parts.WebsocketOutput():
                durations.append(limits.stream_s)
    return Limits(
        duration_s=min((seconds for seconds in durations if seconds > 0), default=0.0),
        file_bytes=file_bytes,
    )
