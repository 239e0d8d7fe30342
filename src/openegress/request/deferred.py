"""Decides what a recording whose picture is composed afterwards may ask for. Pure."""

from openegress.core import plan as parts
from openegress.core.errors import EgressError, invalid, unimplemented
from openegress.core.pause_mode import PauseMode
from openegress.request.options import Options

_OPTION = "render=deferred"


def refusal(source: parts.Source, outputs: tuple[parts.Output, ...], every: Options) -> EgressError | None:
    """The reason why it cannot be deferred; None: it can. `every`: all options that apply to it."""
    if isinstance(source, parts.WebSource | parts.TemplateSource):
        return invalid(f"{_OPTION}: a page can only be recorded while it is shown; leave it out")
    if not isinstance(source, parts.LayoutSource):
        return invalid(f"{_OPTION} is for a room in a built-in layout with a picture; leave it out")
    if any(isinstance(each, parts.StreamOutput | parts.WebsocketOutput) for each in outputs):
        return invalid(f"{_OPTION}: a stream needs its picture now; leave one of the two out")
    if any(isinstance(each, parts.TracksFile) for each in outputs):
        return unimplemented(f"tracks_file with {_OPTION}")
    if every.max_size:
        return invalid(f"{_OPTION}: max_size is not known before it is composed; use max_duration")
    if every.on_pause is PauseMode.HOLD:
        return unimplemented(f"on_pause=hold with {_OPTION}")
    if every.show_left_out:
        return unimplemented(f"show_left_out with {_OPTION}")
    return None
