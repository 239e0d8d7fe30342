"""Merges the options of one request from all the ways in which they may arrive. Pure."""

from dataclasses import dataclass

import msgspec
from livekit.protocol.egress import RoomCompositeEgressRequest, TemplateSource

from openegress.core import plan as parts
from openegress.core.codecs import AskedSpeed, Container, EncoderSpeed, VideoCodec
from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError, invalid, unimplemented
from openegress.core.looks import Looks, PictureFiles
from openegress.core.passthrough import Passthrough
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import Plan
from openegress.core.render import Render
from openegress.core.sidecars import Sidecar
from openegress.core.values import SizeBytes
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.request import deferred, look_options, options, resume_options, storyboards
from openegress.request.context import Context
from openegress.request.options import LayoutQuery, Options
from openegress.request.request_kind import room_of
from openegress.request.resume_options import ResumeChoice

MIN_LENGTH_S = 10.0
MIN_SIZE_BYTES = 5_000_000
"""Minimum length and size of a part. Each part is another entry of EgressInfo, which every update carries: 10
s make 8,640 in a day."""
SPLITTABLE = frozenset({Container.MP4})

_STORED = (parts.FileOutput, parts.SegmentOutput, parts.ImageOutput)
_ROOM_END_RULES = ("stop_when_empty", "stop_when_idle")


@dataclass(frozen=True, slots=True)
class RequestedOptions:
    all: Options
    """All options, including those of the configuration and the room."""
    asked: Options
    """The options of the request alone."""
    layout: str
    """The operator's layout that the request's layout names."""
    notices: tuple[str, ...] = ()

    def end_rules(self, plan: Plan) -> EndRules:
        """The end rules of a recording of `plan`. Raises EgressError for what the request asks for and this
        recording cannot do. What only the configuration or the room asks for is left out."""
        refuse_unsuited(self.asked, plan)
        rules = changed_rules(EndRules(), self.all)
        if not _is_of_room(plan):
            rules = msgspec.structs.replace(rules, stop_when_empty_s=0.0, stop_when_idle_s=0.0)
        return rules if _has_sound(plan) else msgspec.structs.replace(rules, stop_when_silent_s=0.0)

    def split(self, source: parts.Source, outputs: tuple[parts.Output, ...]) -> tuple[parts.Output, ...]:
        """The outputs, with the splitting of files. Raises EgressError like end_rules()."""
        every = self.all.split_every
        if not every:
            return outputs
        is_asked = bool(self.asked.split_every)
        if any(isinstance(each, parts.TracksFile) for each in outputs):
            if is_asked:
                raise unimplemented("split_every beside tracks_file")
            return outputs
        files = [each for each in outputs if isinstance(each, parts.FileOutput)]
        if is_asked and not files:
            raise invalid("split_every: this egress has no file to split")
        length_s, size_bytes = every.length, every.size
        if length_s:
            length_s = max(length_s, MIN_LENGTH_S)
        else:
            size_bytes = max(size_bytes, MIN_SIZE_BYTES)
        if is_asked and (length_s, size_bytes) != (every.length, every.size):
            raise invalid(
                f"split_every: {MIN_LENGTH_S:g}s or {MIN_SIZE_BYTES // 1_000_000}MB is the least; "
                "shorter pieces are what segment_outputs are for"
            )
        if is_asked and any(each.container not in SPLITTABLE for each in files):
            raise unimplemented("split_every of a file that is not an MP4")
        if isinstance(source, parts.TracksSource):
            if is_asked:
                raise unimplemented("split_every of a file of many tracks")
            return outputs
        split = parts.Split(length_s, size_bytes)
        return tuple(
            msgspec.structs.replace(each, split=split)
            if isinstance(each, parts.FileOutput) and each.container in SPLITTABLE
            else each
            for each in outputs
        )

    def tracks_file(self, source: parts.Source) -> str:
        """The path of the file of tracks beside a composite; "": none. Raises like end_rules()."""
        if isinstance(source, parts.LayoutSource):
            return self.all.tracks_file or ""
        if self.asked.tracks_file:
            raise unimplemented("tracks_file of anything but a room in one of this server's layouts")
        return ""

    def sidecars(self, source: parts.Source, outputs: tuple[parts.Output, ...]) -> tuple[Sidecar, ...]:
        """The sidecars beside the recording of `source`. Raises like end_rules()."""
        wanted = self.all.sidecars.each if self.all.sidecars else ()
        why: EgressError | None = None
        if isinstance(source, parts.WebSource | parts.TemplateSource):
            why = unimplemented("sidecars of a page")
        elif not _is_stored(outputs):
            why = invalid("sidecars: they lie beside a file or segments, and this egress has neither")
        if why is None:
            return wanted
        if self.asked.sidecars:
            raise why
        return ()

    def with_stems(self, plan: Plan) -> Plan:
        """`plan` with the stems that it may have. A recording with stems cannot resume: stems that only the
        configuration or the room wants give way to a request for `resume`. Raises like end_rules()."""
        wanted = self.all.stems.form if self.all.stems else None
        if wanted is None:
            return plan
        if (why := _why_no_stems(plan)) is not None:
            if self.asked.stems:
                raise why
            return plan
        if plan.resumes and self.asked.resume:
            if self.asked.stems:
                raise unimplemented("resume of a recording with stems")
            notice = "resume leaves out stems, which the request does not ask for"
            return msgspec.structs.replace(plan, notices=(*plan.notices, notice))
        return msgspec.structs.replace(plan, stems=wanted, resumes=False)

    def loudness_lufs(self, plan: Plan) -> float:
        """The loudness of the sound of `plan`, and of its stems; 0: unchanged. Raises like end_rules()."""
        target = float(self.all.loudness or 0.0)
        is_encoded = plan.audio is not None and plan.passthrough is Passthrough.NEVER
        if not target or is_encoded or plan.stems is not None:
            return target
        if self.asked.loudness:
            raise invalid("loudness: this egress encodes no sound, so its loudness cannot change")
        return 0.0

    @property
    def asks_for_loudness(self) -> bool:
        """Whether tracks must be encoded for loudness that would otherwise be stored as they are."""
        return bool(self.asked.loudness)

    def with_data(
        self, sidecars: tuple[Sidecar, ...], outputs: tuple[parts.Output, ...]
    ) -> tuple[Sidecar, ...]:
        """`sidecars` with the data that a media source asks for. Raises EgressError if no output is stored
        that it could lie beside."""
        if not _is_stored(outputs):
            raise invalid(
                "media.data: it lies beside a file or segments, or in a file of file_type MCAP, and this"
                " egress has neither"
            )
        return tuple(each for each in Sidecar if each in (*sidecars, Sidecar.DATA))

    def storyboard(
        self, outputs: tuple[parts.Output, ...], video: parts.VideoEncoding | None, passthrough: Passthrough
    ) -> tuple[parts.Output, ...]:
        """The outputs, with thumbnails if they are wanted. Raises EgressError if the request asks for them
        without an encoded picture. If only the configuration or the room wants them, they are left out in
        that case, and also if tracks would have to be decoded for them."""
        every_s = self.all.storyboard
        if not every_s:
            return outputs
        is_asked = bool(self.asked.storyboard)
        if is_asked and (every_s < 1 or every_s % 1):
            raise invalid(f"storyboard: {every_s:g} s; give whole seconds, at least 1")
        board = storyboards.beside(outputs, max(1, round(every_s)))
        if video is None or board is None:
            if is_asked and video is None:
                raise invalid("storyboard: this egress encodes no picture to take thumbnails of")
            if is_asked:
                raise invalid(
                    "storyboard: this egress stores no file, segments or images for it to lie beside"
                )
            return outputs
        if passthrough is Passthrough.IF_POSSIBLE and not is_asked:
            return outputs
        kept = [each for each in outputs if not isinstance(each, _STORED)]
        return (*(each for each in outputs if isinstance(each, _STORED)), board, *kept)

    @property
    def data_topics(self) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, (self.all.data_topics or "").split(","))))

    @property
    def asks_for_card(self) -> bool:
        """Whether tracks must be encoded for a card that would otherwise be stored as they are."""
        return self.asked.on_pause is PauseMode.HOLD

    def on_pause(self, outputs: tuple[parts.Output, ...], *, as_it_comes: bool) -> PauseMode:
        """The pause mode for `outputs`. A stream cannot leave time out, and outputs beside it have the same
        pictures. `as_it_comes`: tracks are stored as they are, without a place for a card. Raises EgressError
        if the request asks for one all the same."""
        if any(isinstance(each, parts.StreamOutput | parts.WebsocketOutput) for each in outputs):
            return PauseMode.HOLD
        if not as_it_comes:
            return self.all.on_pause or PauseMode.CUT
        if self.asks_for_card:
            raise unimplemented("on_pause=hold of a track that is stored as it is")
        return PauseMode.CUT

    def encoded(
        self, video: parts.VideoEncoding | None, outputs: tuple[parts.Output, ...], render: Render
    ) -> parts.VideoEncoding | None:
        """`video` with the requested speed and frame rate. Raises EgressError if the request asks for
        something that its outputs cannot use."""
        if video is None:
            for key in ("encoder_speed", "video_codec", "variable_frame_rate"):
                if getattr(self.asked, key):
                    raise invalid(f"{key}: no picture of this egress is encoded; leave it out")
            return None
        is_streamed = any(isinstance(each, parts.StreamOutput) for each in outputs)
        if is_streamed and self.asked.variable_frame_rate:
            raise invalid(
                "variable_frame_rate: a stream keeps its rate, and what is beside it has the same pictures; "
                "leave it out, or stream in a separate egress"
            )
        is_h264 = video.codec is VideoCodec.H264
        if self.asked.variable_frame_rate and not is_h264:
            raise unimplemented("variable_frame_rate of pictures that are not H.264")
        # A recording that is composed later has more time, the fewer recordings wait for it.
        left_to_us = AskedSpeed.AUTO if render is Render.DEFERRED else AskedSpeed.VERYFAST
        speed = self.all.encoder_speed or left_to_us
        is_auto = speed is AskedSpeed.AUTO
        if is_auto and self.asked.encoder_speed and not is_h264:
            raise unimplemented("encoder_speed=auto of pictures that are not H.264")
        return msgspec.structs.replace(
            video,
            speed=EncoderSpeed.VERYFAST if is_auto else EncoderSpeed(speed.value),
            adapts=is_auto and is_h264,
            has_variable_rate=bool(self.all.variable_frame_rate) and is_h264 and not is_streamed,
        )

    def render(self, source: parts.Source, outputs: tuple[parts.Output, ...]) -> Render:
        """When `source` is rendered into `outputs`. Raises EgressError for a recording that cannot be
        composed afterwards, and for options that need a picture while it runs; if only the configuration or
        the room asks for it, such a recording is rendered live."""
        if self.all.render is not Render.DEFERRED:
            return Render.LIVE
        why = deferred.refusal(source, outputs, self.all)
        if why is None:
            return Render.DEFERRED
        if self.asked.render is Render.DEFERRED:
            raise why
        return Render.LIVE

    def resumption(self, outputs: tuple[parts.Output, ...], render: Render) -> ResumeChoice:
        """Whether and how a recording into `outputs` resumes. Raises EgressError like end_rules()."""
        return resume_options.choice_of(self.all, self.asked, outputs, render)

    def recorded(self, source: parts.Source) -> parts.Recorded:
        """The participants and tracks of `source` that are recorded. Raises EgressError if somebody would be
        recorded who must not be, even if only the configuration or the room says so."""
        for key in sorted(options.SELECTING):
            of_page = isinstance(source, parts.TemplateSource) and getattr(self.all, key)
            of_no_room = isinstance(source, parts.WebSource) and getattr(self.asked, key)
            if of_page or of_no_room:
                raise unimplemented(f"{key} of a page, which decides by itself whom it shows,")
        return parts.Recorded(
            only=self.all.record_only.each if self.all.record_only else (),
            left_out=self.all.leave_out.each if self.all.leave_out else (),
            shows_left_out=bool(self.all.show_left_out),
            may_opt_out=self.all.opt_out is not False,
        )

    def looks(self, source: parts.Source, pictures: PictureFiles, *, is_drawn: bool) -> Looks:
        """The looks of `source`, whose pictures are drawn here or not. Raises like end_rules()."""
        return look_options.looks_of(self.all, self.asked, source, pictures, is_drawn=is_drawn)


def _why_no_stems(plan: Plan) -> EgressError | None:
    """The reason why `plan` cannot have stems; None: it can."""
    if not _is_of_room(plan):
        return unimplemented("stems of a page")
    if not _is_stored(plan.outputs):
        return invalid("stems: they lie beside a file or segments, and this egress has neither")
    if not _has_sound(plan):
        return invalid("stems: this egress records no sound")
    if isinstance(plan.source, parts.MediaSource) and plan.passthrough is not Passthrough.NEVER:
        return invalid("stems: this egress stores single tracks as they are")
    return None


def changed_rules(rules: EndRules, asked: Options) -> EndRules:
    """`rules` with the changes in `asked`."""
    told = {
        "max_duration_s": asked.max_duration,
        "max_size_bytes": asked.max_size,
        "stop_when_empty_s": asked.stop_when_empty,
        "stop_when_idle_s": asked.stop_when_idle,
        "stop_when_silent_s": asked.stop_when_silent,
        "start_timeout_s": asked.start_timeout,
    }
    changes = {
        key: int(value) if isinstance(value, SizeBytes) else float(value)
        for key, value in told.items()
        if value is not None
    }
    return msgspec.structs.replace(rules, **changes)


def refuse_unsuited(asked: Options, plan: Plan) -> None:
    """Raises EgressError, naming the option, for a change that a recording of `plan` cannot make."""
    for key in _ROOM_END_RULES:
        if getattr(asked, key) and not _is_of_room(plan):
            raise unimplemented(f"{key} of a page")
    if asked.max_size and not _is_stored(plan.outputs):
        raise invalid("max_size: only files and segments have a size, and this egress has neither")
    if asked.max_size and plan.render is Render.DEFERRED:
        raise invalid("max_size: the size is not known before it is composed; use max_duration")
    if asked.stop_when_silent and not _has_sound(plan):
        raise invalid("stop_when_silent: this egress records no sound")


def _is_stored(outputs: tuple[parts.Output, ...]) -> bool:
    """Whether an output is a file or segments."""
    return any(isinstance(each, parts.FileOutput | parts.SegmentOutput) for each in outputs)


def _is_of_room(plan: Plan) -> bool:
    return isinstance(plan.source, parts.MediaSource | parts.LayoutSource | parts.TracksSource)


def _has_sound(plan: Plan) -> bool:
    """Whether sound is recorded; true for a single track, whose kind only the room knows."""
    if isinstance(plan.source, parts.TracksSource):
        return plan.source.audio
    if isinstance(plan.source, parts.MediaSource) and plan.source.single_track_id:
        return True
    return plan.audio is not None or any(isinstance(each, parts.WebsocketOutput) for each in plan.outputs)


def asked_options(request: Request, context: Context) -> RequestedOptions:
    """Returns the options. Raises EgressError, which names the source and the key, for an unknown option or
    an invalid value."""
    body = request.WhichOneof("request")
    if body is None:
        return RequestedOptions(Options(), Options(), "")
    found = _layout_of(request, body, context)
    asked = options.merged(options.of_query(found.query, "layout"), options.carried(getattr(request, body)))
    of_room, passed_over = options.of_room_metadata(context.room_metadata)
    if of_room.tracks_file:
        # Otherwise the author of a room's metadata could choose any path of the storage.
        of_room = msgspec.structs.replace(of_room, tracks_file=None)
        passed_over += ("room metadata egress: tracks_file is for requests and configuration (ignored)",)
    of_room, unknown = look_options.without_unknown_pictures(of_room, context.pictures)
    every = options.merged(context.options.of_room(room_of(request)), of_room, asked)
    return RequestedOptions(every, asked, found.name, found.near_misses + passed_over + unknown)


def _layout_of(request: Request, body: str, context: Context) -> LayoutQuery:
    room: RoomCompositeEgressRequest | TemplateSource
    match body:
        case "room_composite":
            room = request.room_composite
        case "egress" if request.egress.WhichOneof("source") == "template":
            room = request.egress.template
        case _:
            return LayoutQuery("", "")
    is_of_page = room.custom_base_url or context.template_base
    return options.layout_of_page(room.layout) if is_of_page else options.layout_of_ours(room.layout)
