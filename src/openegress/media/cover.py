"""Draws a tile without a picture: an initial in a circle, and a name below it."""

from dataclasses import dataclass

from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

from openegress.media import text as texts
from openegress.media.images import to_yuv
from openegress.media.text_runs import clusters

Rgb = tuple[int, int, int]
_INITIAL, _NAME = 1 / 6, 0.4
"""Letter heights: of the initial as a share of the tile, of the name as a share of the initial."""
_MIN_NAME_PX = 12
_SMOOTH = 4
"""Factor by which the circle is drawn larger before it is scaled down, because Pillow draws hard edges."""


@dataclass(frozen=True, slots=True)
class CoverStyle:
    tile: Rgb
    badge: Rgb
    initial: Rgb
    name: Rgb


def draw(name: str, width: int, height: int, style: CoverStyle) -> VideoFrame:
    """Draws the tile in yuv420p, BT.709 limited range; width and height are even."""
    image = Image.new("RGB", (width, height), style.tile)
    size = max(1, round(min(width, height) * _INITIAL))
    small = max(_MIN_NAME_PX, round(size * _NAME))
    shown = texts.tidied(name)
    gap = round(0.6 * small)
    top = (height - (2 * size + gap + round(1.2 * small))) // 2
    _badge(image, (width // 2, top + size), size, style.badge)
    _write(image, _initial(shown), size, style.initial, (width // 2, top + size))
    middle = (width // 2, round(top + 2 * size + gap + small * 0.6))
    _write(image, shown, small, style.name, middle)
    return to_yuv(image)


def _write(image: Image.Image, text: str, size: int, colour: Rgb, middle: tuple[int, int]) -> None:
    line = texts.draw(text, size, colour, round(0.9 * image.width))
    image.paste(line, (middle[0] - line.width // 2, middle[1] - line.height // 2), line)


def _badge(image: Image.Image, centre: tuple[int, int], radius: int, colour: Rgb) -> None:
    mask = Image.new("L", (2 * radius * _SMOOTH,) * 2, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=255)
    mask = mask.resize((2 * radius,) * 2, Image.Resampling.BOX)
    image.paste(colour, (centre[0] - radius, centre[1] - radius), mask)


def _initial(name: str) -> str:
    """Returns the first letter, with its accents."""
    return next(iter(clusters(name)), "").upper()
