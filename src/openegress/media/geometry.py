"""Fits a picture of one shape into a rectangle of another. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

MIN_CUT = 2
"""Smallest side in pixels of a picture that is cropped. FFmpeg only cuts whole chroma samples, so nothing
would be left of a line one pixel wide."""
NEARLY = 32
"""Limit for cropping instead of scaling: a picture that exceeds its rectangle by less than one part in this
many is cropped. It stays as sharp as it was sent, and costs half."""


@dataclass(frozen=True, slots=True)
class Rect:
    x: int
    y: int
    width: int
    height: int


def overlap(one: Rect, other: Rect) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


class Fit(StrEnum):
    """The way a picture fills a rectangle of another shape."""

    CONTAIN = "contain"
    """The picture is shown whole."""
    COVER = "cover"
    """The picture is cropped."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """The part `source` of a picture, scaled to fill `into`. All numbers are even (4:2:0 chroma)."""

    source: Rect
    into: Rect


def contain(width: int, height: int, into_width: int, into_height: int) -> Rect:
    """Returns the largest centred rectangle of a picture's shape in another; all numbers are even (4:2:0
    chroma).

    Ignores a difference in shape of less than a chroma sample, so that rounding makes no black line.
    """
    if width * into_height >= height * into_width:
        fitted_width, fitted_height = into_width, round(into_width * height / width)
    else:
        fitted_width, fitted_height = round(into_height * width / height), into_height
    fitted_width = _even_within(fitted_width, into_width)
    fitted_height = _even_within(fitted_height, into_height)
    x, y = (into_width - fitted_width) // 4 * 2, (into_height - fitted_height) // 4 * 2
    return Rect(x, y, fitted_width, fitted_height)


def cover(width: int, height: int, into_width: int, into_height: int) -> Rect:
    """Returns the largest centred part of a picture that has the shape of another; all numbers are even. A
    part of nearly the other's size gets exactly that size.

    Ignores a difference in shape of less than a chroma sample, so that rounding cuts nothing.
    """
    if width * into_height >= height * into_width:
        part_width, part_height = round(height * into_width / into_height), height
    else:
        part_width, part_height = width, round(width * into_height / into_width)
    part_width, part_height = _even_within(part_width, width), _even_within(part_height, height)
    if _is_nearly(part_width, into_width) and _is_nearly(part_height, into_height):
        part_width, part_height = into_width, into_height
    x, y = (width - part_width) // 4 * 2, (height - part_height) // 4 * 2
    return Rect(x, y, part_width, part_height)


def fitting(width: int, height: int, rect: Rect, fit: Fit) -> Fitting:
    """Returns how a picture of (width, height) fits into `rect`. A thin one is shown whole."""
    if fit is Fit.COVER and min(width, height) >= MIN_CUT:
        return Fitting(cover(width, height, rect.width, rect.height), rect)
    inner = contain(width, height, rect.width, rect.height)
    return Fitting(
        Rect(0, 0, width, height), Rect(rect.x + inner.x, rect.y + inner.y, inner.width, inner.height)
    )


def drawn_size(width: int, height: int, rect: Rect, fit: Fit) -> tuple[int, int]:
    """Returns the size at which a picture is drawn, including cropped parts; (0, 0): the size of the
    rectangle."""
    if not width or not height:
        return rect.width, rect.height
    fitted = fitting(width, height, rect, fit)
    scale_x, scale_y = fitted.into.width / fitted.source.width, fitted.into.height / fitted.source.height
    return round(width * scale_x), round(height * scale_y)


def outside(whole: Rect, rects: Sequence[Rect]) -> Iterator[Rect]:
    """Returns the rest of `whole` outside `rects`, which lie inside it, as rectangles that do not overlap."""
    edges = sorted(
        {whole.y, whole.y + whole.height, *(edge for r in rects for edge in (r.y, r.y + r.height))}
    )
    for top, bottom in pairwise(edges):
        x, right = whole.x, whole.x + whole.width
        for rect in sorted(rects, key=lambda each: each.x):
            if rect.y <= top and bottom <= rect.y + rect.height:
                if x < rect.x:
                    yield Rect(x, top, rect.x - x, bottom - top)
                x = max(x, rect.x + rect.width)
        if x < right:
            yield Rect(x, top, right - x, bottom - top)


def _is_nearly(length: int, wanted: int) -> bool:
    return wanted <= length < wanted + wanted / NEARLY


def _even_within(length: int, limit: int) -> int:
    if limit - length < 2:
        return limit
    return max(2, length // 2 * 2)
