"""Whether a stream is a terminal that supports colours, and how wide it is."""

import os
import shutil
from collections.abc import Mapping
from enum import Enum
from typing import TextIO


class Colour(Enum):
    """SGR parameters (ECMA-48, 8.3.117)."""

    BOLD = "1"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"


class Palette:
    """Paints text, or leaves it as it is."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def paint(self, text: str, colour: Colour | None) -> str:
        if not self._enabled or colour is None or not text:
            return text
        return f"\x1b[{colour.value}m{text}\x1b[0m"


def palette(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Palette:
    """Colours for a terminal, unless NO_COLOR (https://no-color.org) or TERM=dumb asks for none."""
    wanted = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    return Palette(wanted and stream.isatty())


def width(stream: TextIO) -> int | None:
    """Columns of the terminal; None: `stream` is not a terminal, so nothing has to be cut."""
    return shutil.get_terminal_size().columns if stream.isatty() else None
