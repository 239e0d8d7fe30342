"""Splits a line of text into runs of one direction and one font, in visual order. Pure.

Directions follow the Unicode Bidirectional Algorithm (UAX 9) without explicit embeddings, which callers have
removed. Each run is then shaped by itself.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_LINE_HEIGHT = 1.4
"""Height of a line of text, relative to its size."""
_RIGHT = ("R", "AL")
_NUMBERS = ("EN", "AN")
_WITHIN_NUMBERS = ("ES", "CS", "ET")
_JOINER = "\u200d"
_KEYCAP = "\u20e3"
_EMOJI_VARIANT = "\ufe0f"
_SKIN = range(0x1F3FB, 0x1F400)
_FLAG = range(0x1F1E6, 0x1F200)
_TAG = range(0xE0020, 0xE0080)
_PICTOGRAPHS = range(0x1F000, 0x1FB00)

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class TextRun(Generic[F]):
    text: str
    font: F
    is_rtl: bool


def line_height(size: int) -> int:
    """The height of a line in pixels."""
    return round(_LINE_HEIGHT * size)


def base_is_rtl(text: str) -> bool:
    """Whether a line runs from right to left, which its first letter with a direction decides."""
    for letter in text:
        if (kind := unicodedata.bidirectional(letter)) in ("L", *_RIGHT):
            return kind in _RIGHT
    return False


def clusters(text: str) -> list[str]:
    """Splits a text into indivisible parts: a letter with its marks, an emoji of several characters."""
    found: list[str] = []
    for letter in text:
        if found and _continues(found[-1], letter):
            found[-1] += letter
        else:
            found.append(letter)
    return found


def is_emoji(cluster: str) -> bool:
    """Whether a cluster is drawn in colour, according to its characters or a variation selector."""
    return _EMOJI_VARIANT in cluster or ord(cluster[0]) in _PICTOGRAPHS


def runs(text: str, font_of: Callable[[str, F | None], F]) -> list[TextRun[F]]:
    """Returns the runs from left to right. `font_of(cluster, font)` chooses a cluster's font; `font` is the
    one before."""
    parts = clusters(text)
    levels = _levels(parts, 1 if base_is_rtl(text) else 0)
    logical: list[tuple[int, TextRun[F]]] = []
    font: F | None = None
    for part, level in zip(parts, levels, strict=True):
        before, font = font, font_of(part, font)
        if logical and logical[-1][0] == level and font == before:
            last = logical[-1][1]
            logical[-1] = (level, TextRun(last.text + part, last.font, last.is_rtl))
        else:
            logical.append((level, TextRun(part, font, level % 2 == 1)))
    return list(_in_visual_order(logical))


def _continues(before: str, letter: str) -> bool:
    code = ord(letter)
    if letter in (_JOINER, _KEYCAP) or before[-1] == _JOINER or 0xFE00 <= code <= 0xFE0F:
        return True
    if code in _SKIN or code in _TAG or unicodedata.category(letter) in ("Mn", "Mc", "Me"):
        return True
    return code in _FLAG and ord(before[-1]) in _FLAG and len(before) % 2 == 1


def _levels(parts: Sequence[str], base: int) -> list[int]:
    """Computes embedding levels (UAX 9, W2, W4, W7, N1, N2, I1, I2)."""
    kinds: list[str] = []
    strong = "R" if base else "L"
    for part in parts:
        kind = unicodedata.bidirectional(part[0])
        if kind in _RIGHT:
            strong, kind = "R", "R"
        elif kind == "L":
            strong = "L"
        elif kind in _NUMBERS:
            kind = "L" if strong == "L" and kind == "EN" else "N"
        elif kind not in _WITHIN_NUMBERS:
            kind = "?"
        kinds.append(kind)
    for at, kind in enumerate(kinds):
        if kind in _WITHIN_NUMBERS:
            beside = {kinds[at - 1] if at else "?", kinds[at + 1] if at + 1 < len(kinds) else "?"}
            kinds[at] = "N" if beside == {"N"} else "?"
    return [_level(kind, base) for kind in _resolved(kinds, "R" if base else "L")]


def _resolved(kinds: Sequence[str], base: str) -> Iterator[str]:
    """Resolves neutrals: they take the direction shared by both sides, or that of the line."""
    at = 0
    while at < len(kinds):
        if kinds[at] != "?":
            yield kinds[at]
            at += 1
            continue
        end = at
        while end < len(kinds) and kinds[end] == "?":
            end += 1
        left = _side(kinds[at - 1]) if at else base
        right = _side(kinds[end]) if end < len(kinds) else base
        yield from [left if left == right else base] * (end - at)
        at = end


def _side(kind: str) -> str:
    return "L" if kind == "L" else "R"


def _level(kind: str, base: int) -> int:
    if kind == "R":
        return 1
    if kind == "N":
        return 2
    return 2 if base else 0


def _in_visual_order(logical: Sequence[tuple[int, TextRun[F]]]) -> Iterator[TextRun[F]]:
    """Reorders runs from logical to visual order (UAX 9, L2)."""
    ordered = list(logical)
    for level in range(max((each for each, _ in ordered), default=0), 0, -1):
        at = 0
        while at < len(ordered):
            end = at
            while end < len(ordered) and ordered[end][0] >= level:
                end += 1
            ordered[at:end] = reversed(ordered[at:end])
            at = max(end, at + 1)
    return (run for _, run in ordered)
