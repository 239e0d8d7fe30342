"""Turns a request into a plan, or a refusal that names the wrong field and the reason."""

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
from openegress.core.codecs import Container
from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.core.ids import check_egress_id
from openegress.core.looks import Looks, PictureFiles
from openegress.core.passthrough import Passthrough
from openegress.core.plan import ParticipantVideo, Plan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.proto.today import today
from openegress.request import (
    containers,
    encoding,
    encoding_notices,
    layouts,
    naming,
    outputs,
    picture_codec,
    placeholders,
    requested,
    room_tracks,
    stream_urls,
    track_routes,
    unknown,
)
from openegress.request.asked_options import asked_options
from openegress.request.context import Context, SessionLimits
from openegress.request.encoding import Wish
from openegress.request.limits import limits_of
from openegress.request.request_kind import (
    RequestKind,
    media_in_tracks,
    records_tracks,
    request_kind,
    room_of,
)
from openegress.request.requested import RequestedFile, RequestedOutputs
from openegress.request.room_tracks import RecordedMedia
from openegress.request.subjects import Subject, Subjects, narrowed, single_track

Live = TypeVar("Live", parts.StreamOutput, parts.WebsocketOutput)

__all__ = ["Context", "RequestKind", "SessionLimits", "plan_of", "request_kind", "room_of"]


def plan_of(request: Request, context: Context) -> Plan:
    """The plan that carries out `request`. Raises EgressError with the wrong field."""
    check_egress_id(request.egress_id)
    body = request.WhichOneof("request")
    found = list(unknown.in_message(today(getattr(request, body)))) if body else []
    told = unknown.notices([each for each in found if not each.value], context.unknown_fields)
    plan = _Planner(request, context).plan()
    # These come later: mistakes in values that the planner reads are reported in upstream's words.
    unknown.notices([each for each in found if each.value], context.unknown_fields)
    return msgspec.structs.replace(plan, notices=told + plan.notices + placeholders.unknown(plan))


class _Planner:
    """Turns one request into a plan."""

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
                plan, unused = self._v2(self.request.egress), requested.unused_storages(self.request.egress)
                return msgspec.structs.replace(plan, notices=plan.notices + unused)
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
        if media_in_tracks(request):
            return self._media_tracks(request, wish)
        match request.WhichOneof("source"):
            case "template":
                subject = self.subjects.of_room(request.template)
            case "web":
                subject = self.subjects.of_web(request.web)
            case "media":
                subject = self.subjects.of_media_source(request.media)
            case _:
                raise missing_or_invalid("source")
        plan = self._encoded(subject, wish, requested.of_v2(request))
        return self._with_data(plan, request)

    def _media_tracks(self, request: StartEgressRequest, wish: Wish) -> Plan:
        """The plan for tracks of a media source, each separately."""
        subject = self.subjects.of_media_tracks(request.media)
        has = RecordedMedia(subject.has_audio, subject.has_video)
        plan = self._into_tracks(subject, has, wish, requested.of_v2(request), "media of several tracks")
        if any(route.channel for route in request.media.audio.routes):
            text = "the channel of an audio route has no effect: each track is recorded for itself"
            plan = msgspec.structs.replace(plan, notices=(*plan.notices, text))
        return self._with_data(plan, request)

    def _with_data(self, plan: Plan, request: StartEgressRequest) -> Plan:
        """`plan` with the data that a media source asks for, which goes into an MCAP, or else beside the
        recording."""
        routes = track_routes.data_of(request.media) if request.HasField("media") else ()
        if not routes:
            return plan
        into_file = any(
            isinstance(o, parts.FileOutput) and o.container is Container.MCAP for o in plan.outputs
        )
        if into_file and isinstance(plan.source, parts.TracksSource):
            return msgspec.structs.replace(plan, source=msgspec.structs.replace(plan.source, data=routes))
        sidecars = self.options.with_data(plan.sidecars, plan.outputs)
        return msgspec.structs.replace(plan, sidecars=sidecars, data_topics=(), data_routes=routes)

    def _records_tracks(self, request: RoomCompositeEgressRequest | TemplateSource) -> bool:
        return records_tracks(request, own_template=bool(self.context.template_base))

    def _tracks(
        self, request: RoomCompositeEgressRequest | TemplateSource, wish: Wish, wanted: RequestedOutputs
    ) -> Plan:
        subject = self.subjects.of_room(request)
        has = RecordedMedia(not request.video_only, not request.audio_only)
        plan = self._into_tracks(subject, has, wish, wanted, f"layout {layouts.TRACKS}")
        if isinstance(request, RoomCompositeEgressRequest) and request.audio_mixing:
            text = f"audio_mixing has no effect: layout {layouts.TRACKS} keeps every voice for itself"
            plan = msgspec.structs.replace(plan, notices=(*plan.notices, text))
        return plan

    def _into_tracks(
        self, subject: Subject, has: RecordedMedia, wish: Wish, wanted: RequestedOutputs, what: str
    ) -> Plan:
        """The plan for tracks in one file. `what`: how the request asks for tracks."""
        file = room_tracks.file_of(wanted, what)
        container = room_tracks.container_of(file, has)
        source = subject.source
        if container is Container.MKA and isinstance(source, parts.TracksSource):
            source = room_tracks.of_sound(source)
        output = outputs.file_output(file, container, self._naming(subject, (0, 0)))
        told = room_tracks.notices(has, wish, container, what)
        return self._plan(
            source, (output,), None, None, values=subject.values, passthrough=Passthrough.ALWAYS, notices=told
        )

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
        options = self.options
        wish = picture_codec.chosen(wish, options.all, options.asked, wanted, has_video=has_video)
        is_media = isinstance(subject.source, parts.MediaSource)
        looks = self.options.looks(subject.source, self.context.pictures, is_drawn=has_video)
        may_pass = is_media and not wish.asked and _tracks_only(subject.source)
        needs_encoding = self.options.asks_for_card or self.options.asks_for_loudness
        may_pass = may_pass and not (looks.draws_over or needs_encoding)
        others = containers.of_others(wanted)
        streamed = wanted.stream is not None
        against_webm = encoding.against_webm(
            wish, has_audio=has_audio, file=None, others=others, streamed=streamed
        )
        codec = wish.video_codec if has_video else None
        file = containers.of_file(wanted.file, codec, fits_webm=not against_webm) if wanted.file else None
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
        audio_codec = formats.audio if wanted.is_encoded else None
        audio = encoding.audio_encoding(wish, audio_codec) if audio_codec else None
        names = self._naming(subject, (wish.width, wish.height))
        found = self._outputs(wanted, formats.file, names)
        return self._plan(
            narrowed(subject.source, has_audio, has_video),
            room_tracks.with_file(found, self.options.tracks_file(subject.source), wanted, names),
            video,
            audio,
            values=subject.values,
            passthrough=Passthrough.IF_POSSIBLE if may_pass else Passthrough.NEVER,
            looks=looks,
            notices=encoding_notices.of(wish, wanted, RecordedMedia(has_audio, has_video), audio, video)
            + formats.notices
            + subject.told(has_audio=has_audio, has_video=has_video)
            + outputs.renamed(wanted.file.file.filepath if wanted.file else "", formats.file),
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
                return self._single_track(source, RequestedFile(request.file, (request.file,)))
            case "websocket_url":
                output = self._bounded(stream_urls.websocket(request.websocket_url))
                return self._plan(source, (output,), None, None, values={"track_id": request.track_id})
            case _:
                raise missing_or_invalid("output")

    def _passed_through(self, request: StartEgressRequest) -> Plan:
        """The plan for the v2 preset PASSTHROUGH: one track into one file, whose type is the track's."""
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

    def _single_track(
        self, source: parts.MediaSource, requested_file: RequestedFile, notices: tuple[str, ...] = ()
    ) -> Plan:
        track_id = source.single_track_id
        values = {"track_id": track_id}
        subject = Subject(source, track_id, False, False, values)
        output = outputs.file_output(requested_file, None, self._naming(subject, (0, 0)))
        return self._plan(
            source, (output,), None, None, values=values, passthrough=Passthrough.ALWAYS, notices=notices
        )

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
        passthrough: Passthrough = Passthrough.NEVER,
        looks: Looks | None = None,
        notices: tuple[str, ...] = (),
    ) -> Plan:
        """Makes the plan. `looks` is None if nothing is drawn here."""
        found = self.options.storyboard(found, video, passthrough)
        split, render = self.options.split(source, found), self.options.render(source, found)
        resumption = self.options.resumption(split, render)
        plan = Plan(
            egress_id=self.request.egress_id,
            source=source,
            outputs=resumption.outputs,
            video=self.options.encoded(video, found, resumption.render),
            audio=audio,
            passthrough=passthrough,
            room_id=self.request.room_id,
            room_name=room_of(self.request),
            name_values=self._values() | values,
            limits=limits_of(found, self.context.limits),
            recorded=self.options.recorded(source),
            looks=looks or self.options.looks(source, self.context.pictures, is_drawn=False),
            pictures=self.context.pictures if looks is not None else PictureFiles(),
            sidecars=self.options.sidecars(source, found),
            data_topics=self.options.data_topics,
            on_pause=self.options.on_pause(
                found,
                as_it_comes=passthrough is not Passthrough.NEVER
                and not isinstance(source, parts.TracksSource),
            ),
            render=resumption.render,
            resumes=resumption.resumes,
            notices=notices + self.options.notices + resumption.notices,
        )
        plan = self.options.with_stems(msgspec.structs.replace(plan, end_rules=self.options.end_rules(plan)))
        return msgspec.structs.replace(plan, loudness_lufs=self.options.loudness_lufs(plan))


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
    """Whether the source names at most one audio and one video track, which may be stored as they are."""
    if not isinstance(source, parts.MediaSource) or isinstance(source.video, ParticipantVideo):
        return False
    return len(source.audio) <= 1 and all(
        route.match == "track" and route.channel == "both" and not route.track_name for route in source.audio
    )
