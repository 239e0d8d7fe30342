"""The options of one request, from all the ways by which they may have come. Pure."""

from dataclasses import dataclass

from livekit.protocol.egress import RoomCompositeEgressRequest, TemplateSource

from openegress.core import plan as parts
from openegress.core.errors import EgressError, invalid, unimplemented
from openegress.core.sidecars import Sidecar
from openegress.proto.egress_rpc_pb2 import StartEgressRequest as Request
from openegress.request import options
from openegress.request.context import Context
from openegress.request.options import LayoutQuery, Options
from openegress.request.request_kind import room_of

_OF_A_ROOM = ("stop_when_empty", "stop_when_idle")


@dataclass(frozen=True, slots=True)
class AskedOptions:
    all: Options
    """The configuration's too."""
    asked: Options
    """Of the request alone."""
    layout: str
    """What of the request's layout names one."""
    notices: tuple[str, ...] = ()

    def end_rules(self, source: parts.Source, outputs: tuple[parts.Output, ...]) -> parts.EndRules:
        """Of a recording of `source`. Raises EgressError for what the request asks and this recording has no
        way to do; of the configuration that is left out."""
        is_of_room = isinstance(source, parts.MediaSource | parts.LayoutSource | parts.TracksSource)
        for key in _OF_A_ROOM:
            if getattr(self.asked, key) and not is_of_room:
                raise unimplemented(f"{key} of what a page shows, whose room is not looked into,")
        is_stored = any(isinstance(each, parts.FileOutput | parts.SegmentOutput) for each in outputs)
        if self.asked.max_size and not is_stored:
            raise invalid("max_size: only files and segments have a size, and this egress has neither")
        return parts.EndRules(
            max_duration_s=float(self.all.max_duration or 0),
            max_size_bytes=int(self.all.max_size or 0),
            stop_when_empty_s=float(self.all.stop_when_empty or 0) if is_of_room else 0.0,
            stop_when_idle_s=float(self.all.stop_when_idle or 0) if is_of_room else 0.0,
            start_timeout_s=float(self.all.start_timeout or 0),
        )

    def sidecars(self, source: parts.Source, outputs: tuple[parts.Output, ...]) -> tuple[Sidecar, ...]:
        """What is kept beside the recording of `source`. Raises as end_rules() does."""
        wanted = self.all.sidecars.each if self.all.sidecars else ()
        why: EgressError | None = None
        if isinstance(source, parts.WebSource | parts.TemplateSource):
            why = unimplemented("sidecars of what a page shows, whose room is not looked into,")
        elif not any(isinstance(each, parts.FileOutput | parts.SegmentOutput) for each in outputs):
            why = invalid("sidecars: they lie beside a file or segments, and this egress has neither")
        if why is None:
            return wanted
        if self.asked.sidecars:
            raise why
        return ()

    @property
    def data_topics(self) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, (self.all.data_topics or "").split(","))))

    def recorded(self, source: parts.Source) -> parts.Recorded:
        """Of `source`. Raises EgressError where somebody would be recorded who is not to be: also where only
        the configuration says so."""
        for key in sorted(options.SELECTING):
            of_page = isinstance(source, parts.TemplateSource) and getattr(self.all, key)
            of_no_room = isinstance(source, parts.WebSource) and getattr(self.asked, key)
            if of_page or of_no_room:
                raise unimplemented(f"{key} of what a page shows, which chooses by itself,")
        return parts.Recorded(
            only=self.all.record_only.each if self.all.record_only else (),
            left_out=self.all.leave_out.each if self.all.leave_out else (),
            shows_left_out=bool(self.all.show_left_out),
            may_opt_out=self.all.opt_out is not False,
        )


def asked_options(request: Request, context: Context) -> AskedOptions:
    """Raises EgressError naming the way and the key for what is no option or has no such value."""
    body = request.WhichOneof("request")
    if body is None:
        return AskedOptions(Options(), Options(), "")
    found = _layout_of(request, body, context)
    asked = options.merged(options.of_query(found.query, "layout"), options.carried(getattr(request, body)))
    every = options.merged(context.options.of_room(room_of(request)), asked)
    return AskedOptions(every, asked, found.name, found.near_misses)


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
