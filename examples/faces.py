"""Drawn people: a head with eyes that blink and a mouth that opens, before a room, with a name."""

from dataclasses import dataclass
from functools import cache

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 960, 540
SMOOTH = 3
"""Drawn so many times larger, and scaled down: edges are smooth then."""
HEAD = (420, 560)
"""Units in which head, neck and shoulders are drawn; they move as one picture."""
HEAD_SCALE = 0.88
MOUTHS = 6
LABEL_LEFT = 100
"""A speaker's tile is less wide than the picture, which loses its sides there."""

Rgb = tuple[int, int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Look:
    name: str
    skin: Rgb
    hair: Rgb
    shirt: Rgb
    wall: Rgb
    long_hair: bool = False
    glasses: bool = False
    beard: bool = False


class Face:
    """One person's pictures. `draw` takes some six milliseconds."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._room = _room(look)
        self._label = _label(look.name)
        self._poses = {
            (mouth, shut): _person(look, mouth / (MOUTHS - 1), shut)
            for mouth in range(MOUTHS)
            for shut in (False, True)
        }

    def draw(self, at_s: float, openness: float) -> NDArray[np.uint8]:
        """I420 of a moment; `openness` of the mouth is 0 to 1."""
        picture = self._room.copy()
        mouth = min(MOUTHS - 1, round(openness * (MOUTHS - 1)))
        shut = (at_s + len(self._look.name) * 0.7) % 3.7 < 0.14
        pose = self._poses[mouth, shut]
        phase = len(self._look.name)
        x = round((WIDTH - pose.width) / 2 + 9 * np.sin(at_s * 0.9 + phase))
        y = round(HEIGHT - pose.height + 12 + 5 * np.sin(at_s * 1.7 + phase) - 8 * openness)
        picture.paste(pose, (x, y), pose)
        picture.paste(self._label, (LABEL_LEFT, HEIGHT - self._label.height - 20), self._label)
        frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24").reformat(format="yuv420p")
        planes: NDArray[np.uint8] = frame.to_ndarray().astype(np.uint8).reshape(-1)
        return planes


def _scaled(box: Box) -> Box:
    left, top, right, bottom = box
    return left * SMOOTH, top * SMOOTH, right * SMOOTH, bottom * SMOOTH


def _shade(colour: Rgb, by: float) -> Rgb:
    red, green, blue = (max(0, min(255, round(part * by))) for part in colour)
    return red, green, blue


class _Pencil:
    """Draws in units of the finished picture."""

    def __init__(self, size: tuple[int, int], mode: str, colour: Rgb | None = None) -> None:
        large = (size[0] * SMOOTH, size[1] * SMOOTH)
        self._image = Image.new(mode, large, colour if colour else (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)

    def oval(self, box: Box, colour: Rgb) -> None:
        self._draw.ellipse(_scaled(box), fill=colour)

    def block(self, box: Box, colour: Rgb, radius: float = 0) -> None:
        self._draw.rounded_rectangle(_scaled(box), radius * SMOOTH, fill=colour)

    def curve(self, box: Box, start: float, end: float, colour: Rgb, width: float) -> None:
        self._draw.arc(_scaled(box), start, end, fill=colour, width=round(width * SMOOTH))

    def ring(self, box: Box, colour: Rgb, width: float) -> None:
        self._draw.ellipse(_scaled(box), outline=colour, width=round(width * SMOOTH))

    def line(self, points: Box, colour: Rgb, width: float) -> None:
        self._draw.line(_scaled(points), fill=colour, width=round(width * SMOOTH))

    def done(self) -> Image.Image:
        return self._image.reduce(SMOOTH)


def _room(look: Look) -> Image.Image:
    """A wall with a window or a shelf, out of focus."""
    pencil = _Pencil((WIDTH, HEIGHT), "RGB", look.wall)
    pencil.block((0, 430, WIDTH, HEIGHT), _shade(look.wall, 0.78))
    if look.long_hair:
        pencil.block((660, 50, 860, 300), (214, 232, 245), 6)
        pencil.block((754, 50, 766, 300), _shade(look.wall, 1.2))
        pencil.block((660, 170, 860, 180), _shade(look.wall, 1.2))
    else:
        for shelf in (140, 280):
            pencil.block((50, shelf, 280, shelf + 12), _shade(look.wall, 0.6))
            for n in range(7):
                height = 62 + 17 * ((n * 5 + shelf) % 4)
                tint = ((90 * n + 60) % 200, (70 * n + 90) % 190, (50 * n + 120) % 180)
                pencil.block((64 + 28 * n, shelf - height, 88 + 28 * n, shelf), tint, 2)
    pencil.oval((800, 300, 930, 470), (62, 120, 74))
    pencil.block((835, 450, 895, 520), (150, 92, 60), 8)
    return pencil.done().filter(ImageFilter.GaussianBlur(6))


def _person(look: Look, openness: float, shut: bool) -> Image.Image:
    pencil = _Pencil(HEAD, "RGBA")
    _hair_behind(pencil, look)
    pencil.block((165, 330, 255, 460), _shade(look.skin, 0.86), 30)
    pencil.block((30, 420, 390, 700), look.shirt, 110)
    pencil.oval((160, 395, 260, 470), _shade(look.skin, 0.92))
    for left in (66, 322):
        pencil.oval((left, 190, left + 32, 256), _shade(look.skin, 0.93))
    pencil.oval((85, 60, 335, 385), look.skin)
    _hair_before(pencil, look)
    for middle in (152, 268):
        _eye(pencil, look, middle, shut)
    pencil.curve((192, 215, 228, 275), 20, 160, _shade(look.skin, 0.7), 5)
    for left in (110, 262):
        pencil.oval((left, 258, left + 50, 290), _shade(look.skin, 0.95))
    if look.beard:
        pencil.curve((120, 200, 300, 384), 15, 165, look.hair, 20)
    _mouth(pencil, look, openness)
    size = (round(HEAD[0] * HEAD_SCALE), round(HEAD[1] * HEAD_SCALE))
    return pencil.done().resize(size, Image.Resampling.BICUBIC)


def _hair_behind(pencil: _Pencil, look: Look) -> None:
    if look.long_hair:
        pencil.block((58, 60, 362, 450), look.hair, 130)
    else:
        pencil.oval((76, 32, 344, 300), look.hair)


def _hair_before(pencil: _Pencil, look: Look) -> None:
    pencil.curve((74, 34, 346, 330), 190, 350, look.hair, 58 if look.long_hair else 44)


def _eye(pencil: _Pencil, look: Look, middle: float, shut: bool) -> None:
    pencil.curve((middle - 32, 160, middle + 32, 200), 200, 340, _shade(look.hair, 0.8), 8)
    if shut:
        pencil.curve((middle - 24, 190, middle + 24, 222), 20, 160, _shade(look.skin, 0.55), 5)
    else:
        pencil.oval((middle - 25, 192, middle + 25, 230), (250, 250, 250))
        pencil.oval((middle - 14, 196, middle + 14, 226), (72, 54, 40))
        pencil.oval((middle - 7, 203, middle + 7, 219), (16, 14, 14))
        pencil.oval((middle + 1, 201, middle + 8, 208), (255, 255, 255))
    if look.glasses:
        pencil.ring((middle - 42, 174, middle + 42, 248), (40, 40, 48), 6)
        pencil.line((190, 208, 230, 208), (40, 40, 48), 6)


def _mouth(pencil: _Pencil, look: Look, openness: float) -> None:
    lips = _shade((190, 84, 84), look.skin[0] / 235)
    if openness < 0.1:
        pencil.curve((165, 285, 255, 335), 25, 155, lips, 7)
        return
    height, width = 10 + 44 * openness, 74 - 14 * openness
    box = (210 - width / 2, 318 - height / 2, 210 + width / 2, 318 + height / 2)
    pencil.oval(box, lips)
    inner = (box[0] + 6, box[1] + 5, box[2] - 6, box[3] - 5)
    pencil.oval(inner, (74, 22, 28))
    if height > 24:
        pencil.block((210 - width / 4, inner[1] + 1, 210 + width / 4, inner[1] + 8), (245, 245, 240), 3)


@cache
def _label(name: str) -> Image.Image:
    font = ImageFont.load_default(30)
    left, top, right, bottom = font.getbbox(name)
    size = (round(right - left) + 36, round(bottom - top) + 26)
    label = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(label)
    draw.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 12, fill=(0, 0, 0, 150))
    draw.text((18 - left, 13 - top), name, font=font, fill=(255, 255, 255, 255))
    return label
