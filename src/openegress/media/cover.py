"""What a tile shows where there is no picture: an initial in a circle and a name below it.

Fonts are the system's: fontconfig is asked for one that has all the characters of a name.
"""

import re
import unicodedata
from dataclasses import dataclass

from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFont

from openegress.media.fonts import font_file
from openegress.media.images import to_yuv

Rgb = tuple[int, int, int]
_INITIAL, _NAME = 1 / 6, 0.4
"""Heights of letters: the initial's of the tile, the name's of the initial's."""
_MIN_NAME_PX = 12
_SMOOTH = 4
"""The circle is drawn this much larger and scaled down: Pillow draws hard edges."""

MOST_CHARS = 256
"""No tile has room for more of a name."""
_MOST_MARKS = 3
"""Marks on one letter: some languages stack as many."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of what follows."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class CoverStyle:
    tile: Rgb
    badge: Rgb
    initial: Rgb
    name: Rgb


def draw(name: str, width: int, height: int, style: CoverStyle) -> VideoFrame:
    """yuv420p, BT.709 limited range; width and height even."""
    image = Image.new("RGB", (width, height), style.tile)
    size = max(1, round(min(width, height) * _INITIAL))
    small = max(_MIN_NAME_PX, round(size * _NAME))
    shown = _shown(name)
    gap = round(0.6 * small)
    top = (height - (2 * size + gap + round(1.2 * small))) // 2
    _badge(image, (width // 2, top + size), size, style.badge)
    pen = ImageDraw.Draw(image)
    initial = _initial(shown)
    pen.text((width / 2, top + size), initial, style.initial, _font(initial, size), anchor="mm")
    font = _font(shown, small)
    line = (width / 2, top + 2 * size + gap + small * 0.6)
    pen.text(line, _cut(shown, font, 0.9 * width), style.name, font, anchor="mm")
    return to_yuv(image)


def _shown(name: str) -> str:
    """On one line, without what cannot be seen and marks without end."""
    letters, marks = [], 0
    for letter in _UNSEEN.sub("", " ".join(name[:MOST_CHARS].split())):
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= _MOST_MARKS:
            letters.append(letter)
    return "".join(letters)


def _badge(image: Image.Image, centre: tuple[int, int], radius: int, colour: Rgb) -> None:
    mask = Image.new("L", (2 * radius * _SMOOTH,) * 2, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=255)
    mask = mask.resize((2 * radius,) * 2, Image.Resampling.BOX)
    image.paste(colour, (centre[0] - radius, centre[1] - radius), mask)


def _initial(name: str) -> str:
    """The first letter with its accents."""
    end = 1
    while end < len(name) and unicodedata.combining(name[end]):
        end += 1
    return name[:end].upper()


def _cut(text: str, font: Font, width: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def _font(text: str, size: int) -> Font:
    path, index = font_file("".join(sorted(set(text))))
    if path:
        try:
            return ImageFont.truetype(path, size, index=index)
        except OSError:
            pass  # a bitmap font, or one that is gone: Pillow's own has Latin at least
    return ImageFont.load_default(size)
