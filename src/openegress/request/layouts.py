"""Reads layout names of the Egress API: an arrangement and a theme, as in "grid", "speaker-light"."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from openegress.core.layout_spec import LayoutSpec


class Arrangement(StrEnum):
    GRID = "grid"
    SPEAKER = "speaker"
    SINGLE_SPEAKER = "single-speaker"


@dataclass(frozen=True, slots=True)
class Layout:
    arrangement: Arrangement = Arrangement.GRID
    light: bool = False
    spec: LayoutSpec | None = None
    """A layout of the operator's own, instead of the arrangement."""


LAYOUTS: dict[str, Layout] = {
    arrangement + tone: Layout(arrangement, tone == "-light")
    for arrangement in Arrangement
    for tone in ("", "-dark", "-light")
}
"""The built-in layouts by name."""


TRACKS = "tracks"
"""The name used instead of a layout if no picture is composed, and every track is stored as it is."""


def parse(name: str, specs: Sequence[LayoutSpec] = ()) -> Layout:
    """The layout of this name; the default one for an empty name. `specs` are the operator's own."""
    for spec in specs:
        if spec.name == name:
            return Layout(spec=spec)
    return LAYOUTS[resolve(name)] if name else Layout()


def resolve(name: str) -> str:
    """The name from LAYOUTS for any name, as upstream's template reads it: by its beginning, and by whether
    it ends in -light. Options after a "?" are not part of it."""
    name = name.partition("?")[0]
    if name in LAYOUTS:
        return name
    for arrangement in (Arrangement.SINGLE_SPEAKER, Arrangement.SPEAKER):
        if name.startswith(arrangement):
            break
    else:
        arrangement = Arrangement.GRID
    return arrangement + ("-light" if name.endswith("-light") else "")


def named(name: str, specs: Sequence[LayoutSpec]) -> str:
    """`name` if it is one of the operator's own layouts, `specs`; otherwise what resolve() makes of it."""
    return name if any(spec.name == name for spec in specs) else resolve(name)


def taken_for(name: str) -> str:
    """The notice about a name that resolve() had to guess."""
    known = ", ".join(LAYOUTS)
    return f"layout {name[:64]!r} is unknown and taken for {resolve(name)}; the built-in template has {known}"
