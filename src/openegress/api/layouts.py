"""Layouts of the built-in template, and whether an egress has one to change."""

from collections.abc import Collection
from dataclasses import dataclass

from livekit.protocol.egress import EgressInfo

from openegress.core.info import details_of
from openegress.request import layouts, options
from openegress.request.orders import LayoutOrder
from openegress.request.request_kind import records_tracks, room_request


@dataclass(frozen=True, slots=True)
class Ask:
    """What an UpdateLayout comes to."""

    layout: str | None
    """What the recorder is told; None: nothing, as it has no layout."""
    notice: str = ""
    """What the caller is told."""


def ask(info: EgressInfo, asked: LayoutOrder, own: Collection[str] = (), *, own_template: bool) -> Ask:
    """A template of the request, or of the server (`own_template`), knows its own layouts; the built-in one
    reads any name, as upstream's does. `own`: names of the operator's layouts."""
    request, name = room_request(info), asked.layout
    if request is None:
        kind = info.WhichOneof("request")
        return Ask(None, _without_layout(f"a {(kind or 'request').replace('_', ' ')}"))
    if request.custom_base_url:
        return Ask(name)
    if records_tracks(request, own_template=own_template):
        return Ask(None, _without_layout("a recording of tracks as they are"))
    if request.audio_only:
        return Ask(None, _without_layout("a recording of sound alone"))
    if not own_template and name == layouts.TRACKS:
        return Ask(None, f"layout {name} has no effect on an egress that runs: start another with it")
    if own_template or name is None or name in layouts.LAYOUTS or name in own:
        return Ask(_text(name, asked))
    return Ask(_text(layouts.resolve(name), asked), layouts.taken_for(name))


def _text(name: str | None, asked: LayoutOrder) -> str:
    """As it is told to the recorder."""
    query = options.text_of(asked.looks)
    return f"{name or ''}?{query}" if query else name or ""


def is_laid_out(info: EgressInfo, *, own_template: bool) -> bool:
    """A room in a layout of ours, which is told how to look by its layout; all else is by an order."""
    request = room_request(info)
    if request is None or request.custom_base_url or own_template or request.audio_only:
        return False
    return not records_tracks(request, own_template=own_template)


def is_of_page(info: EgressInfo, *, own_template: bool) -> bool:
    """Its layout is read by a page of the request's, or of the server's (`own_template`)."""
    request = room_request(info)
    return request is not None and bool(request.custom_base_url or own_template)


def _without_layout(what: str) -> str:
    return f"the layout has no effect: this is {what}, and only room composites have one"


def noted(info: EgressInfo, notice: str) -> EgressInfo:
    """For the caller alone; the record stays as it is."""
    if not notice:
        return info
    copy = EgressInfo()
    copy.CopyFrom(info)
    copy.details = details_of(info.details, notice)
    return copy


def with_layout(info: EgressInfo, asked: LayoutOrder) -> EgressInfo:
    """The info with the layout in its request's echo. It stays in the time of the worker that wrote the
    record: a stamp of our clock could make the worker's next updates look old."""
    changed = EgressInfo()
    changed.CopyFrom(info)
    changed.updated_at = info.updated_at + 1
    request = room_request(changed)
    if request is not None:
        name = request.layout.partition("?")[0] if asked.layout is None else asked.layout
        request.layout = _text(name, asked)
    return changed
