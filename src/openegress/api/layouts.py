"""Layouts of the built-in template, and whether an egress has one to change."""

from collections.abc import Collection
from dataclasses import dataclass

from livekit.protocol.egress import EgressInfo

from openegress.core.info import details_of
from openegress.core.looks import PictureFiles
from openegress.request import layouts, look_options, options
from openegress.request.request_kind import records_tracks, room_request


@dataclass(frozen=True, slots=True)
class Ask:
    """What an UpdateLayout comes to."""

    layout: str | None
    """What the recorder is told; None: nothing, as it has no layout."""
    notice: str = ""
    """What the caller is told."""


def ask(
    info: EgressInfo,
    layout: str,
    pictures: PictureFiles,
    own: Collection[str] = (),
    *,
    own_template: bool,
) -> Ask:
    """A template of the request, or of the server (`own_template`), knows its own layouts; the built-in one
    reads any name, as upstream's does. `own`: names of the operator's layouts. The query
    may change how the recording looks, with `pictures`. Raises
    EgressError for what cannot be changed, or has no such value."""
    request = room_request(info)
    if request is None:
        kind = info.WhichOneof("request")
        return Ask(None, _without_layout(f"a {(kind or 'request').replace('_', ' ')}"))
    if request.custom_base_url:
        options.refuse_change(layout, options.KEYS)
        return Ask(layout)
    if records_tracks(request, own_template=own_template):
        return Ask(None, _without_layout("a recording of tracks as they are"))
    if request.audio_only:
        return Ask(None, _without_layout("a recording of sound alone"))
    if not own_template and layout.partition("?")[0] == layouts.TRACKS:
        return Ask(None, f"layout {layout} has no effect on an egress that runs: start another with it")
    if own_template:
        options.refuse_change(layout, options.KEYS)
        return Ask(layout)
    change = options.change_of(layout)
    look_options.refuse_unknown_pictures(change.looks, pictures)
    if change.name is None or change.name in layouts.LAYOUTS or change.name in own:
        return Ask(layout)
    _, mark, query = layout.partition("?")
    return Ask(f"{layouts.resolve(change.name)}{mark}{query}", layouts.taken_for(change.name))


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
    request = room_request(changed)
    if request is not None:
        request.layout = request.layout.partition("?")[0] + layout if layout.startswith("?") else layout
    return changed
