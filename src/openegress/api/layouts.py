"""Layouts of the built-in template, and whether an egress has one to change."""

from livekit.protocol.egress import EgressInfo

from openegress.core import layouts
from openegress.core.errors import Code, EgressError, invalid


def check(info: EgressInfo, layout: str, *, own_template: bool) -> None:
    """Raises EgressError: failed_precondition where nothing is laid out, invalid_argument for a layout
    that the built-in template does not know. A template of the request, or of the server (`own_template`),
    knows its own."""
    match info.WhichOneof("request"):
        case "room_composite":
            request = info.room_composite
            audio_only, custom = request.audio_only, request.custom_base_url
        case "egress" if info.egress.HasField("template"):
            audio_only, custom = info.egress.template.audio_only, info.egress.template.custom_base_url
        case kind:
            raise _without_layout(info, f"a {(kind or 'request').replace('_', ' ')}")
    if custom:
        return
    if audio_only:
        raise _without_layout(info, "a recording of sound alone")
    if not own_template and layout not in layouts.LAYOUTS:
        raise invalid(layouts.unknown(layout))


def _without_layout(info: EgressInfo, what: str) -> EgressError:
    return EgressError(
        Code.FAILED_PRECONDITION,
        f"egress {info.egress_id} is {what} and has no layout; only room composites of a page have one",
    )


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
