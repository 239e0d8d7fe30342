"""Pages of docs/ that campaigns write: a head, and a table whose rows may be measured in several runs."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

Key = tuple[str, ...]
"""The first cells of a row, which name it."""


def machine() -> str:
    return f"{psutil.cpu_count()} cores, {platform.system()} {platform.machine()}"


def replace_rows(path: Path, head: str, rows: Mapping[Key, str], order: Sequence[Key]) -> None:
    """Writes the page again: rows that were not measured this time stay; rows that are not in `order` are
    removed."""
    kept = rows_of(path.read_text("utf-8"), len(order[0])) if path.is_file() else {}
    merged = {**kept, **rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text(head + "".join(f"{merged[key]}\n" for key in order if key in merged), "utf-8")


def rows_of(text: str, key_cells: int) -> dict[Key, str]:
    """The rows of a page's tables by their first cells."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("|") and len(cells) > key_cells + 2:
            found[tuple(cells[1 : key_cells + 1])] = line
    return found
