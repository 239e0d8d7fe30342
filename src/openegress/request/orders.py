"""Orders for a running recording: pause, change options, mark a moment. Pure.

An order is text. It travels as the name of a layout: over the bus from our own API, and in the metadata of
the recorder's participant from any SDK through a stock livekit-server.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import quote, unquote

from openegress.core import foreign_json
from openegress.core.block import Block
from openegress.core.decode import Decoder
from openegress.core.errors import EgressError, invalid, unimplemented
from openegress.core.text import shown
from openegress.core.values import Seconds
from openegress.request import options
from openegress.request.look_options import LOOK_KEYS, LookOptions
from openegress.request.options import Options

_SET = "@set?"
_MARKER = "@marker="
MAX_NAME_CHARS = 200
_DECIMALS = 6
"""Decimals of seconds that a duration keeps in its text."""
LIVE = frozenset({"max_duration", "max_size", "stop_when_empty", "stop_when_idle", "stop_when_silent"})
"""Options that can change while an egress records, in addition to its looks."""


class PauseOrder(StrEnum):
    """The orders that take the place of a layout's name."""

    PAUSE = "@pause"
    RESUME = "@resume"


@dataclass(frozen=True, slots=True)
class SetOptions:
    """Replaces each option that has a value."""

    options: Options

    def __str__(self) -> str:
        return _SET + options.text_of(self.options)


@dataclass(frozen=True, slots=True)
class AddMarker:
    """Gives a name to a moment of the recording."""

    name: str
    ago_s: float = 0.0
    """How long ago the moment was."""

    def __str__(self) -> str:
        return f"{_MARKER}{quote(self.name)}" + (f"&ago={self.ago_s:.{_DECIMALS}f}s" if self.ago_s else "")


Order = PauseOrder | SetOptions | AddMarker


@dataclass(frozen=True, slots=True)
class LayoutOrder:
    """The order in the name of a layout."""

    order: Order | None
    layout: str | None
    """The requested layout; None: the recording keeps its own."""
    looks: LookOptions = LookOptions()  # noqa: RUF009 - it is frozen
    """The requested changes of its look."""

    @property
    def changes_picture(self) -> bool:
        return self.layout is not None or self.looks != LookOptions()

    def with_looks_ordered(self) -> "LayoutOrder":
        """Makes the look one more option, for a picture that is not in one of our layouts."""
        if self.looks == LookOptions():
            return self
        others = self.order.options if isinstance(self.order, SetOptions) else Options()
        return LayoutOrder(SetOptions(options.together(self.looks, others)), self.layout)


def parse(text: str) -> Order:
    """Reads an order from what its str() wrote. Raises EgressError for anything else."""
    if text in tuple(PauseOrder):
        return PauseOrder(text)
    if text.startswith(_MARKER):
        return _marker_of(text)
    if text.startswith(_SET):
        return set_options(options.of_query(text.removeprefix(_SET), "options"))
    raise invalid(f'"{shown(text, 64)}" is not an order for a recording')


def set_options(asked: Options) -> SetOptions:
    """Makes the order. Raises EgressError, which names the option, for one that can no longer change."""
    for key in options.KEYS:
        if getattr(asked, key) is not None and key not in LIVE and key not in LOOK_KEYS:
            raise unimplemented(f"changing {key} of a running egress")
    return SetOptions(asked)


def add_marker(name: str, ago: str) -> AddMarker:
    """Makes the order. `ago` is a duration with its unit, or empty. Raises EgressError for an invalid
    duration, and for a missing name."""
    shown_name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not shown_name:
        raise invalid("name: a marker needs one")
    if len(shown_name) > MAX_NAME_CHARS:
        raise invalid(f"name: {len(shown_name)} characters; a marker has at most {MAX_NAME_CHARS}")
    ago_s = Decoder().struct({"ago": ago or "0"}, _Ago, "").ago
    return AddMarker(shown_name, round(ago_s, _DECIMALS))


def _marker_of(text: str) -> AddMarker:
    """Reads @marker=NAME or @marker=NAME&ago=10s, escaped as in a URL."""
    name, _, rest = text.removeprefix(_MARKER).partition("&")
    key, _, ago = rest.partition("=")
    if rest and key != "ago":
        raise invalid(f'{_MARKER[:-1]}: "{shown(key, 64)}" is unknown; write & in a name as %26')
    return add_marker(unquote(name), unquote(ago))


class _Ago(Block, frozen=True, forbid_unknown_fields=True):
    ago: Seconds = Seconds(0)


def in_layout(layout: str, *, of_page: bool = False) -> LayoutOrder:
    """The order in an UpdateLayout. `of_page`: a page gets the part of the query that is not ours. Raises
    EgressError for an unknown order, for invalid options, and for those that can no longer change."""
    # Ignore case: behind a livekit-server, nobody would learn that "@Pause" was not obeyed.
    if (spoken := layout.strip().lower()) in tuple(PauseOrder):
        return LayoutOrder(PauseOrder(spoken), None)
    if layout.startswith(_MARKER):
        return LayoutOrder(_marker_of(layout), None)
    if layout.startswith("@"):
        raise invalid(f'layout: "{shown(layout, 64)}" is not an order; write @pause, @resume or @marker=NAME')
    found = options.layout_of_page(layout) if of_page else options.layout_of_ours(layout)
    if not found.query:
        return LayoutOrder(None, found.name)
    asked = in_options(options.of_query(found.query, "layout"))
    return replace(asked.with_looks_ordered() if of_page else asked, layout=found.name or None)


def in_options(asked: Options) -> LayoutOrder:
    """The order in options, however they arrived. Raises EgressError for those that can no longer change."""
    looks, others = options.apart(asked)
    return LayoutOrder(set_options(others) if others != Options() else None, None, looks)


def layout_in(metadata: str) -> str | None:
    """The layout in a participant's metadata; None if it contains none."""
    try:
        parsed = foreign_json.loads(metadata)
    except ValueError:
        return None  # free text for its user; only JSON with a layout is meant for us
    name = parsed.get("layout") if isinstance(parsed, dict) else None
    return name if isinstance(name, str) else None


def in_metadata(layout: str, *, of_page: bool = False) -> tuple[LayoutOrder, EgressError | None]:
    """Like in_layout(), for an author who gets no answer: mistakes are ignored, and returned as notices."""
    try:
        return in_layout(layout, of_page=of_page), None
    except EgressError as error:
        names_one = not layout.startswith(("@", "?"))
        return LayoutOrder(None, layout.partition("?")[0] if names_one else None), error
