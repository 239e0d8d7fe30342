"""Reads an operator's own layout from a tree of JSON or YAML. Pure.

A mistake is reported with its place as a JSON pointer (RFC 6901).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from openegress.core import foreign_json
from openegress.core.decode import near
from openegress.core.layout_spec import LayoutSpec, Region, RegionFit, Who
from openegress.core.looks import Backdrop
from openegress.core.selectors import Selectors
from openegress.core.text import shown

MAX_REGIONS = 32
MAX_PEOPLE = 25
"""Limit for people in one region, as in a grid."""
LARGEST_CANVAS = 16_384
MIN_LENGTH = 0.01
MAX_Z = 100
_ROUNDING = 1e-9
_KEYS = ("canvas", "regions", "background")
_REGION_KEYS = ("x", "y", "w", "h", "who", "nth", "max", "fit", "z")

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class LayoutFault:
    pointer: str
    """The place of the mistake; "": the whole layout."""
    text: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.text}"


class LayoutFaults(ValueError):
    """The mistakes of a tree that is not a valid layout."""

    def __init__(self, faults: list[LayoutFault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def parse_layout(text: str, name: str) -> LayoutSpec:
    """Reads `text`, which is JSON. Raises LayoutFaults."""
    try:
        tree = foreign_json.loads(text)
    except ValueError as error:
        raise LayoutFaults([LayoutFault("", f"this is not JSON: {error}")]) from None
    return read_layout(tree, name)


def read_layout(tree: object, name: str) -> LayoutSpec:
    """Reads a layout. Raises LayoutFaults with all mistakes."""
    reader = _Reader()
    spec = reader.layout(tree, name)
    if reader.faults:
        raise LayoutFaults(reader.faults)
    return spec


@dataclass(slots=True)
class _Reader:
    faults: list[LayoutFault] = field(default_factory=list)

    def layout(self, tree: object, name: str) -> LayoutSpec:
        keys = self._object(tree, "", _KEYS)
        width, height = self._canvas(keys)
        background = ""
        if "background" in keys:
            text = self._text(keys["background"], "/background")
            try:
                background = str(Backdrop.parse(text))
            except ValueError as error:
                self._wrong("/background", text, str(error))
        regions = keys.get("regions")
        if not isinstance(regions, list) or not 1 <= len(regions) <= MAX_REGIONS:
            if isinstance(tree, Mapping):
                self._fault("/regions", f"needs a list of 1 to {MAX_REGIONS} regions")
            return LayoutSpec(name, ())
        found = [self._region(each, f"/regions/{n}", width, height) for n, each in enumerate(regions)]
        return LayoutSpec(name, tuple(found), background)

    def _canvas(self, keys: Mapping[str, Any]) -> tuple[float, float]:
        """The width and height that lengths are divided by."""
        if "canvas" not in keys:
            return 1.0, 1.0
        sizes = self._object(keys["canvas"], "/canvas", ("width", "height"))
        width, height = (
            self._number(sizes, name, "/canvas", 1, LARGEST_CANVAS) for name in ("width", "height")
        )
        return width, height

    def _region(self, tree: object, at: str, width: float, height: float) -> Region:
        keys = self._object(tree, at, _REGION_KEYS)
        x, w = self._span(keys, at, ("x", "w"), width)
        y, h = self._span(keys, at, ("y", "h"), height)
        who, selectors = self._who(keys, at)
        most = self._whole(keys, "max", at, 1, MAX_PEOPLE, 1)
        nth = self._whole(keys, "nth", at, 1, MAX_PEOPLE, 0)
        if nth and most > 1:
            self._fault(f"{at}/nth", "names one person, and max more than one: leave one of them out")
        if who is Who.SPEAKER and not selectors:
            for key in ("nth", "max"):
                if key in keys:
                    self._fault(f"{at}/{key}", "only one person is the speaker: leave it out")
        return Region(
            x,
            y,
            w,
            h,
            who,
            selectors,
            nth,
            most,
            self._one_of(keys, "fit", at, RegionFit, RegionFit.AUTO),
            self._whole(keys, "z", at, -MAX_Z, MAX_Z, 0),
        )

    def _span(
        self, keys: Mapping[str, Any], at: str, names: tuple[str, str], whole: float
    ) -> tuple[float, float]:
        """The beginning and length of a span, as fractions of `whole`."""
        begin = self._number(keys, names[0], at, 0, whole) / whole
        length = self._number(keys, names[1], at, MIN_LENGTH * whole, whole) / whole
        if begin + length > 1 + _ROUNDING:
            room = max(0.0, 1 - begin) * whole
            self._fault(
                f"{at}/{names[1]}",
                f"{length * whole:g} from {names[0]} {begin * whole:g} on reaches beyond the picture; at most"
                f" {room:g} fits",
            )
        return min(begin, 1.0), min(length, 1.0 - min(begin, 1.0))

    def _who(self, keys: Mapping[str, Any], at: str) -> tuple[Who, tuple[Any, ...]]:
        if "who" not in keys:
            return Who.ANYONE, ()
        text = self._text(keys["who"], f"{at}/who")
        if text in list(Who):
            return Who(text), ()
        try:
            selectors = Selectors.parse(text)
        except ValueError as error:
            self._wrong(f"{at}/who", text, f"speaker, anyone or {error}")
            return Who.ANYONE, ()
        if not selectors:
            self._fault(f"{at}/who", "needs speaker, anyone or selectors")
        return Who.ANYONE, selectors.each

    def _object(self, tree: object, at: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(tree, Mapping):
            self._fault(at, f"needs an object with {', '.join(known)}")
            return {}
        for key in tree:
            if key not in known:
                self._fault(f"{at}/{_escaped(str(key))}", f"unknown key{near(str(key), known)}")
        return {key: value for key, value in tree.items() if key in known}

    def _number(self, keys: Mapping[str, Any], name: str, at: str, least: float, most: float) -> float:
        """A number; `least` if it is invalid."""
        where = f"{at}/{name}"
        if name not in keys:
            if not self._is_faulty(at):
                self._fault(where, "is missing")
            return least
        value = keys[name]
        try:
            found = math.nan if isinstance(value, bool | list | dict) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not least <= found <= most:  # neither is NaN
            self._wrong(where, value, f"a number from {least:g} to {most:g}")
            return least
        return found

    def _whole(self, keys: Mapping[str, Any], name: str, at: str, least: int, most: int, default: int) -> int:
        if name not in keys:
            return default
        found = self._number(keys, name, at, least, most)
        if found != int(found):
            self._wrong(f"{at}/{name}", keys[name], "a whole number")
        return int(found)

    def _one_of(self, keys: Mapping[str, Any], name: str, at: str, kind: type[E], default: E) -> E:
        if name not in keys:
            return default
        text = self._text(keys[name], f"{at}/{name}")
        try:
            return kind(text)
        except ValueError:
            self._wrong(f"{at}/{name}", text, "one of " + ", ".join(str(each.value) for each in kind))
            return default

    def _text(self, value: object, where: str) -> str:
        if isinstance(value, str):
            return value
        self._wrong(where, value, "a text")
        return ""

    def _wrong(self, where: str, value: object, expected: str) -> None:
        if not self._is_faulty(where):
            self._fault(where, f'"{shown(str(value), 64)}" is not {expected}')

    def _is_faulty(self, where: str) -> bool:
        return any(each.pointer == where for each in self.faults)

    def _fault(self, where: str, text: str) -> None:
        self.faults.append(LayoutFault(where, text))


def _escaped(key: str) -> str:
    """`key` as a part of a JSON pointer (RFC 6901, section 3)."""
    return shown(key, 64).replace("~", "~0").replace("/", "~1")
