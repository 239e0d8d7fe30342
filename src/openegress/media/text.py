"""Draws a line of text in any script: Pillow with FreeType, HarfBuzz and Raqm, and the host's fonts.

One font rarely has all characters of a line. So each run uses a font that has its characters, and emoji use
their own. A character without a font appears as a box.
"""

import re
import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from openegress.media import fonts
from openegress.media.text_runs import TextRun, is_emoji, line_height, runs

Rgb = tuple[int, int, int]
Face = tuple[str, int, bool]
"""A font: its path ("": Pillow's own), its index in the file, and whether it has coloured pictures."""

_BITMAP_PX = 109
"""The only size of Noto's coloured emoji; other sizes are scaled."""
_ASCENT = 1.05
"""Ascent of a line, relative to its size."""
_ELLIPSIS = "…"
MAX_CHARS = 256
"""Limit for a line: no picture has room for more."""
_MAX_MARKS = 3
"""Limit for marks on one letter: some languages stack this many."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Matches control characters, and characters that change the text direction."""


def tidied(text: str) -> str:
    """Puts text on one line of bounded length, without invisible characters or endless marks."""
    letters, marks = [], 0
    for letter in _UNSEEN.sub("", " ".join(text[:MAX_CHARS].split())):
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= _MAX_MARKS:
            letters.append(letter)
    return "".join(letters)


def width_of(text: str, size: int) -> int:
    """The width of a line in pixels."""
    return round(sum(_length(run, size) for run in runs(text, _face_of)))


def cut(text: str, size: int, width: int) -> str:
    """Returns the text, or as much of it as fits into `width`, with an ellipsis."""
    if width_of(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + _ELLIPSIS, size) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + _ELLIPSIS


def draw(text: str, size: int, colour: Rgb, width: int) -> Image.Image:
    """Draws a line as RGBA of its own size. The line is tidied, and cut if it is wider than `width`."""
    line = cut(tidied(text), size, width)
    pieces = [(run, _length(run, size)) for run in runs(line, _face_of)]
    image = Image.new("RGBA", (max(1, round(sum(length for _, length in pieces))), line_height(size)))
    x = 0.0
    for run, length in pieces:
        if run.font[2]:
            piece = _emoji(run, size, length)
            image.alpha_composite(piece, (round(x), max(0, (image.height - piece.height) // 2)))
        else:
            pen, base = ImageDraw.Draw(image), (x, round(_ASCENT * size))
            font = _font(run.font, size)
            pen.text(base, run.text, colour, font, anchor="ls", direction=_direction(run, font))
        x += length
    return image


def _face_of(cluster: str, before: Face | None) -> Face:
    if is_emoji(cluster):
        path, index = fonts.emoji_font_of(cluster[0])
        if path:
            return path, index, True
    first = cluster[0]
    if before is not None and not before[2] and (first.isspace() or fonts.has(*before[:2], first)):
        return before
    path, index = fonts.font_of(first)
    if not path:
        path, index = fonts.emoji_font_of(first)
        if path:
            return path, index, True
        path, index = fonts.font_of("a")
    return path, index, False


def _length(run: TextRun[Face], size: int) -> float:
    font = _font(run.font, size)
    length = font.getlength(run.text, direction=_direction(run, font))
    return length * size / _BITMAP_PX if run.font[2] else length


def _emoji(run: TextRun[Face], size: int, length: float) -> Image.Image:
    font = _font(run.font, size)
    width = max(1, round(length * _BITMAP_PX / size))
    large = Image.new("RGBA", (width, line_height(_BITMAP_PX)))
    pen, base = ImageDraw.Draw(large), (0, round(_ASCENT * _BITMAP_PX))
    pen.text(base, run.text, font=font, anchor="ls", direction=_direction(run, font), embedded_color=True)
    return large.resize((max(1, round(length)), line_height(size)), Image.Resampling.LANCZOS)


def _direction(run: TextRun[Face], font: ImageFont.FreeTypeFont) -> str | None:
    """The direction for Pillow; None: without Raqm, letters are drawn one by one from left to right."""
    if font.layout_engine != ImageFont.Layout.RAQM:
        return None
    return "rtl" if run.is_rtl else "ltr"


@lru_cache(maxsize=64)
def _font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    path, index, is_coloured = face
    if path:
        try:
            return ImageFont.truetype(path, _BITMAP_PX if is_coloured else size, index=index)
        except OSError:
            pass  # a bitmap or missing font: Pillow's own has at least Latin
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)  # Pillow is built with FreeType wherever it has wheels
    return own
