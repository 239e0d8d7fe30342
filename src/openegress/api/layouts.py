"""Layouts of the built-in template, and whether an egress has one to change."""

from dataclasses import dataclass

from livekit.protocol.egress import EgressInfo

from openegress.core.info import details_of
from openegress.request import layouts
from openegress.request.request_kind import records_tracks, room_request


@dataclass(frozen=True, slots=True)
class Ask:
    """What an UpdateLayout comes to."""

    layout: str | None
    """What the recorder is told; None: nothing, as it has no layout."""
    notice: str = ""
    """What the caller is told."""


def ask(info: EgressInfo, layout: str, *, own_template: bool) -> Ask:
    """A template of the request, or of the server (`own_template`), knows its own layouts; the built-in one
    reads any name, as upstream's does."""
    request = room_request(info)
    if request is None:
        kind = info.WhichOneof("request")
        return Ask(None, _without_layout(f"a {(kind or 'request').replace('_', ' ')}"))
    if request.custom_base_url:
        return Ask(layout)
    if records_tracks(request, own_template=own_template):
        return Ask(None, _without_layout("a recording of tracks as they are"))
    if request.audio_only:
        return Ask(None, _without_layout("a recording of sound alone"))
    if not own_template and layout == layouts.TRACKS:
        return Ask(None, f"layout {layout} has no effect on an egress that runs: start another with it")
    if own_template or layout in layouts.LAYOUTS:
        return Ask(layout)
    return Ask(layouts.resolve(layout), layouts.taken_for(layout))


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


def with_layout(info: EgressInfo, layout: str) -> EgressInfo:
    """The info with the layout in its request's echo. It stays in the time of the worker that wrote the
    record: a stamp of our clock could make the worker's next updates look old."""
    changed = EgressInfo()
    changed.CopyFrom(info)
    changed.updated_at = info.updated_at + 1
    if changed.WhichOneof("request") == "room_composite":
        changed.room_composite.layout = layout
    else:
        changed.egress.template.layout = layout
    return changed
