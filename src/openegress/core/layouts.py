"""Layout names of the Egress API: an arrangement and a theme, as in "grid", "speaker-light"."""

from dataclasses import dataclass
from enum import StrEnum


class Arrangement(StrEnum):
    GRID = "grid"
    SPEAKER = "speaker"
    SINGLE_SPEAKER = "single-speaker"


@dataclass(frozen=True, slots=True)
class Layout:
    arrangement: Arrangement = Arrangement.GRID
    light: bool = False


LAYOUTS: dict[str, Layout] = {
    arrangement + tone: Layout(arrangement, tone == "-light")
    for arrangement in Arrangement
    for tone in ("", "-dark", "-light")
}
"""By name."""


def parse(name: str) -> Layout | None:
    """The layout of this name, the default for an empty one, None for an unknown one."""
    return LAYOUTS.get(name) if name else Layout()


def unknown(name: str) -> str:
    return f"layout {name!r} is unknown; the built-in template has {', '.join(LAYOUTS)}"
