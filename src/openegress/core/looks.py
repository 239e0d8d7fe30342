"""The looks of a recording beyond its pictures: what is drawn over them, and what they lie on. Pure.

Looks is a part of the plan; the kinds of values are those that options are written in.
"""

import re
import zoneinfo
from enum import StrEnum

import msgspec

MAX_CHARS = 200
"""Limit for a text that is drawn: two lines of subtitles have eighty characters."""
LARGEST_SIZE = 0.5
"""Limits for the height of a logo or a line of text, as parts of the picture's height."""
LARGEST_MARGIN = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%", re.ASCII)
_HEX = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})", re.ASCII)
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that reverse the direction of text, lone surrogates. Joiners stay:
scripts and emoji need them."""
COLOURS = {
    "black": "#000000",
    "blue": "#0000ff",
    "gray": "#808080",
    "green": "#008000",
    "navy": "#000080",
    "orange": "#ffa500",
    "purple": "#800080",
    "red": "#ff0000",
    "silver": "#c0c0c0",
    "teal": "#008080",
    "white": "#ffffff",
    "yellow": "#ffff00",
}
"""Names of colours from CSS."""


class Corner(StrEnum):
    TOP_LEFT = "top-left"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_RIGHT = "bottom-right"

    @property
    def is_top(self) -> bool:
        return self in (Corner.TOP_LEFT, Corner.TOP_RIGHT)

    @property
    def is_left(self) -> bool:
        return self in (Corner.TOP_LEFT, Corner.BOTTOM_LEFT)


class Looks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is drawn over the picture. An empty text draws nothing."""

    logo: str = ""
    """Name of a configured picture."""
    logo_corner: Corner = Corner.TOP_RIGHT
    logo_size: float = 0.12
    """Part of the picture's height."""
    logo_opacity: float = 1.0
    text: str = ""
    text_corner: Corner = Corner.TOP_LEFT
    """The fields below are about the names of people."""
    text_size: float = 0.04
    """Part of the picture's height, as for every line."""
    clock: str = ""
    """IANA time zone."""
    recorded_at: str = ""
    """IANA time zone."""
    recording_dot: bool = False
    names: bool = False
    speaker_border: str = ""
    """#rrggbb."""
    background: str = ""
    """#rrggbb, or the name of a configured picture."""
    safe_margin: float = 0.03
    """Part of the picture's shorter side."""

    @property
    def draws_over(self) -> bool:
        """Something is drawn over the whole picture, whatever its source."""
        return bool(self.logo or self.text or self.clock or self.recorded_at or self.recording_dot)


class PictureFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Configured pictures: paths by names."""

    logos: dict[str, str] = {}
    backgrounds: dict[str, str] = {}


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Converts #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


# --- values of options; parse() raises ValueError with what it should be, as the end of a sentence


class PictureName(str):
    """ "": none."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "PictureName":
        if text and not _NAME.fullmatch(text):
            raise ValueError("the name of a configured picture: letters, digits, _, . and -")
        return cls(text)


class CssColour(str):
    """#rrggbb in lower case; "": none."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "CssColour":
        found = COLOURS.get(text.lower(), text.lower())
        if found and not _HEX.fullmatch(found):
            raise ValueError("a colour, like #ff8800, or one of " + ", ".join(COLOURS))
        return cls("#" + "".join(2 * digit for digit in found[1:]) if len(found) == 4 else found)


class Backdrop(str):
    """A colour, or the name of a configured picture; "": none."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Backdrop":
        if text.lower() in COLOURS or text.startswith("#"):
            return cls(CssColour.parse(text))
        return cls(PictureName.parse(text))


class Caption(str):
    """One line of text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Caption":
        line = " ".join(_INVISIBLE.sub(" ", text).split())
        if len(line) > MAX_CHARS:
            raise ValueError(f"a text of at most {MAX_CHARS} characters")
        return cls(line)


class Zone(str):
    """An IANA time zone; "": none."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Zone":
        if text:
            try:
                zoneinfo.ZoneInfo(text)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError("a time zone, like UTC or Europe/Berlin") from None
        return cls(text)


class Share(float):
    """Part of a whole, written in percent."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{100 * self:.3f}%"

    @classmethod
    def parse(cls, text: str) -> "Share":
        return cls(_percent(text, 0.0, 1.0))


class HeightShare(Share):
    """Part of a height."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "HeightShare":
        return cls(_percent(text, 0.01, LARGEST_SIZE))


class Margin(Share):
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Margin":
        return cls(_percent(text, 0.0, LARGEST_MARGIN))


def _percent(text: str, least: float, most: float) -> float:
    found = _PERCENT.fullmatch(text.strip())
    value = float(found[1]) / 100 if found else -1.0
    if not least <= value <= most:
        raise ValueError(f"a share between {100 * least:g}% and {100 * most:g}%, like {50 * most:g}%")
    return value
