"""Computes where tiles lie on the canvas, in whole pixels. Pure.

Positions and sizes are even: the recording's chroma has half the resolution, and an odd edge would bleed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openegress.media.geometry import Rect

GRID_CAPACITY = 25
"""Maximum number of tiles: with more, nobody is recognisable."""
_ASPECT = 16 / 9


@dataclass(frozen=True, slots=True)
class Size:
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FocusRects:
    focus: Rect
    others: tuple[Rect, ...]


def gap_of(canvas: Size) -> int:
    """Space between tiles and around them: 8 at 720 lines, 12 at 1080."""
    return _even(min(canvas.width, canvas.height) / 90)


def grid_rects(count: int, canvas: Size) -> Sequence[Rect]:
    """`count` equal cells that fill the canvas row by row, with a short last row centred; one cell has no
    border."""
    if count <= 0:
        return ()
    if count == 1:
        return (_whole(canvas),)
    gap = gap_of(canvas)
    columns = _columns_for(count, canvas)
    rows = math.ceil(count / columns)
    width = _even((canvas.width - gap) / columns - gap)
    height = _even((canvas.height - gap) / rows - gap)
    top = _even((canvas.height - rows * (height + gap) + gap) / 2)
    rects = []
    for index in range(count):
        row = index // columns
        in_row = count - row * columns if row == rows - 1 else columns
        left = _even((canvas.width - in_row * (width + gap) + gap) / 2)
        x, y = left + index % columns * (width + gap), top + row * (height + gap)
        rects.append(Rect(x, y, width, height))
    return rects


def side_capacity(canvas: Size) -> int:
    """How many tiles fit beside the focus."""
    gap, tile = gap_of(canvas), _side_tile(canvas)
    if canvas.width >= canvas.height:
        return max(1, (canvas.height - gap) // (tile.height + gap))
    return max(1, (canvas.width - gap) // (tile.width + gap))


def focus_rects(others: int, canvas: Size) -> FocusRects:
    """The focus with up to `side_capacity` others beside it; alone it fills the canvas."""
    if others <= 0:
        return FocusRects(_whole(canvas), ())
    gap, tile = gap_of(canvas), _side_tile(canvas)
    wide = canvas.width >= canvas.height
    x = 2 * gap + tile.width if wide else gap
    y = gap if wide else 2 * gap + tile.height
    step_x, step_y = (0, tile.height + gap) if wide else (tile.width + gap, 0)
    return FocusRects(
        Rect(x, y, _even(canvas.width - x - gap), _even(canvas.height - y - gap)),
        tuple(
            Rect(gap + index * step_x, gap + index * step_y, tile.width, tile.height)
            for index in range(others)
        ),
    )


def _columns_for(count: int, canvas: Size) -> int:
    """The number of columns that makes a 16:9 picture largest."""
    gap = gap_of(canvas)
    best, best_width = 1, 0.0
    for columns in range(1, count + 1):
        rows = math.ceil(count / columns)
        cell_width = (canvas.width - gap) / columns - gap
        cell_height = (canvas.height - gap) / rows - gap
        picture_width = min(cell_width, cell_height * _ASPECT)
        if picture_width > best_width:
            best, best_width = columns, picture_width
    return best


def _side_tile(canvas: Size) -> Size:
    """The tile size beside the focus: a sixth of the canvas, at the left if it is wide, at the top if it is
    tall."""
    gap = gap_of(canvas)
    if canvas.width >= canvas.height:
        width = _even((canvas.width - 3 * gap) / 6)
        return Size(width, _even(min(width / _ASPECT, canvas.height - 2 * gap)))
    height = _even((canvas.height - 3 * gap) / 6)
    return Size(_even(min(height * _ASPECT, canvas.width - 2 * gap)), height)


def _whole(canvas: Size) -> Rect:
    return Rect(0, 0, canvas.width, canvas.height)


def _even(value: float) -> int:
    return max(2, 2 * math.floor(value / 2))
