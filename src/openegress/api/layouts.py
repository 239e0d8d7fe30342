"""Decides what an UpdateLayout does: whether the egress has a layout, and what to send to its recorder."""

from collections.abc import Collection
from dataclasses import dataclass

from livekit.protocol.egress import EgressInfo

from openegress.core.info import details_of
from openegress.request import layouts, options
from openegress.request.orders import LayoutOrder
from openegress.request.request_kind import records_tracks, room_request


@dataclass(frozen=True, slots=True)
class LayoutChange:
    """The effect of an UpdateLayout."""

    layout: str | None
    """The layout for the recorder; None: it has no layout to change."""
    notice: str = ""
    """A notice for the caller, for `details` of the answer."""


def layout_change(
    info: EgressInfo, asked: LayoutOrder, own: Collection[str] = (), *, own_template: bool
) -> LayoutChange:
    """Decides the effect of an UpdateLayout. Templates of the request, or of the server (`own_template`), get
    the name unchanged. The built-in layouts accept any name, as upstream's template does. `own` has the names
    of the operator's layouts."""
    request, name = room_request(info), asked.layout
    if request is None:
        return LayoutChange(None, _without_layout(_what(info)))
    if request.custom_base_url:
        return LayoutChange(name)
    if records_tracks(request, own_template=own_template):
        return LayoutChange(None, _without_layout("a recording of tracks as they are"))
    if request.audio_only:
        return LayoutChange(None, _without_layout("a recording of sound alone"))
    if not own_template and name == layouts.TRACKS:
        return LayoutChange(
            None, f"layout {name} cannot be applied to a running egress: start another one with it"
        )
    if own_template or name is None or name in layouts.LAYOUTS or name in own:
        return LayoutChange(_text(name, asked))
    return LayoutChange(_text(layouts.resolve(name), asked), layouts.taken_for(name))


def _text(name: str | None, asked: LayoutOrder) -> str:
    """The layout in the form that the recorder reads, with looks as a query."""
    query = options.text_of(asked.looks)
    return f"{name or ''}?{query}" if query else name or ""


def is_laid_out(info: EgressInfo, *, own_template: bool) -> bool:
    """Whether the egress records a room in a built-in layout. Its looks change with the layout; those of
    other egresses change by an order."""
    request = room_request(info)
    if request is None or request.custom_base_url or own_template or request.audio_only:
        return False
    return not records_tracks(request, own_template=own_template)


def is_of_page(info: EgressInfo, *, own_template: bool) -> bool:
    """Whether a template page reads the layout: the request's, or the server's (`own_template`)."""
    request = room_request(info)
    return request is not None and bool(request.custom_base_url or own_template)


def _what(info: EgressInfo) -> str:
    """What an egress without a room composite records."""
    match info.WhichOneof("request"):
        case "egress":
            return "a web page" if info.egress.HasField("web") else "a choice of media"
        case "web":
            return "a web page"
        case kind:
            return f"a {(kind or 'request').replace('_', ' ')}"


def _without_layout(what: str) -> str:
    return f"the layout has no effect: this is {what}, and only room composites have one"


def noted(info: EgressInfo, notice: str) -> EgressInfo:
    """A copy of the info with a notice in its details, for the caller; the record does not change."""
    if not notice:
        return info
    copy = EgressInfo()
    copy.CopyFrom(info)
    copy.details = details_of(info.details, notice)
    return copy


def with_layout(info: EgressInfo, asked: LayoutOrder) -> EgressInfo:
    """A copy of the info with the layout in its request. `updated_at` grows by only one nanosecond: a time of
    our clock could make the worker's next update look older."""
    changed = EgressInfo()
    changed.CopyFrom(info)
    changed.updated_at = info.updated_at + 1
    request = room_request(changed)
    if request is not None:
        name = request.layout.partition("?")[0] if asked.layout is None else asked.layout
        request.layout = _text(name, asked)
    return changed
