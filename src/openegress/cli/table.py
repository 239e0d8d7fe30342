"""Tables of text: columns are as wide as necessary, and no wider than the terminal. Pure."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from openegress.cli.terminal import Colour, Palette

GAP = "  "
NARROWEST = 12
"""The least width to which a column shrinks."""


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    gives_way: bool = False
    """Its texts may be cut where the terminal is too narrow."""
    right: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    colour: Colour | None = None


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    palette: Palette,
    columns_wide: int | None = None,
) -> str:
    """A header and a line for each row, each ending in a line break. The last column is never padded, and is
    cut only if it may shrink."""
    widths = _widths(columns, rows, columns_wide)
    heads = [Cell(column.title, Colour.BOLD) for column in columns]
    return "".join(f"{_line(columns, row, widths, palette)}\n" for row in [heads, *rows])


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], columns_wide: int | None) -> list[int]:
    widths = [
        max([text_width(column.title), *(text_width(row[n].text) for row in rows)])
        for n, column in enumerate(columns)
    ]
    if columns_wide is None:
        return widths
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - columns_wide
    while excess > 0:
        able = [n for n, column in enumerate(columns) if column.gives_way and widths[n] > NARROWEST]
        if not able:
            break
        widest = max(able, key=lambda n: widths[n])
        widths[widest] -= 1
        excess -= 1
    return widths


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int], palette: Palette) -> str:
    parts = []
    for n, (column, cell) in enumerate(zip(columns, row, strict=True)):
        is_last = n == len(columns) - 1
        text = cell.text if is_last and not column.gives_way else cut(cell.text, widths[n])
        padding = " " * (widths[n] - text_width(text))
        painted = palette.paint(text, cell.colour)
        parts.append(padding + painted if column.right else painted if is_last else painted + padding)
    return GAP.join(parts).rstrip()


def text_width(text: str) -> int:
    """Columns of a terminal (UAX #11): wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def cut(text: str, columns_wide: int) -> str:
    """`text`, or as much of it as fits followed by an ellipsis."""
    if text_width(text) <= columns_wide:
        return text
    kept = ""
    for char in text:
        if text_width(kept + char) > columns_wide - 1:
            break
        kept += char
    return kept + "…"
