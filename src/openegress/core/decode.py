"""A tree of text to typed settings: one walk that converts, and collects what it does not know. Pure.

All scalars come as the text they are written as, and take the type of the setting they are for: a password
of digits stays what it is, and a port may be quoted.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import durationpy
import msgspec

from openegress.core.errors import EgressError, invalid
from openegress.core.values import LengthOrSize, Parsed, Seconds, Secret, SizeBytes

S = TypeVar("S", bound=msgspec.Struct)

_TRUE = frozenset({"true", "yes", "on", "y", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "0"})
MIN_NANOSECONDS = 1_000_000
_INT64_DIGITS = 19
_MAX_CHARS = 64
"""Limit for the length of a duration, and of a key that is compared with the known ones: longer ones would
take too long."""
_LARGEST_BYTES = 2**62
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,15})?) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}


@dataclass(slots=True)
class Decoder:
    """Turns a tree of mappings, lists and text into structs. `warnings` collects unknown keys, unless a
    struct forbids them."""

    warnings: list[str] = field(default_factory=list)

    def struct(self, tree: Any, kind: type[S], path: str = "") -> S:
        """Raises EgressError naming the path and the value, unless the value is secret."""
        if not isinstance(tree, Mapping):
            # Text in place of a block may be a URL with a password in it.
            raise _wrong(path, tree, "a block of keys", secret=True)
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, value in tree.items():
            where = f"{path}.{key}" if path else str(key)
            if key not in hints:
                if kind.__struct_config__.forbid_unknown_fields:
                    raise invalid(f"{where}: unknown key{near(str(key), hints)}")
                self.warnings.append(f"{where}: unknown key, ignored{near(str(key), hints)}")
            elif value is not None:
                values[key] = self._value(value, hints[key], where)
        return kind(**values)

    def _value(self, value: Any, kind: Any, path: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            if str in arguments and bool in arguments:
                return _flag(value, path)
            return self._value(value, next(a for a in arguments if a is not type(None)), path)
        if origin is tuple:
            items = value if isinstance(value, list) else [value]
            return tuple(self._value(item, arguments[0], f"{path}[{n}]") for n, item in enumerate(items))
        if origin is dict:
            if not isinstance(value, Mapping):
                raise _wrong(path, value, "a block of keys", secret=arguments[1] is Secret)
            return {
                str(key): self._value("" if item is None else item, arguments[1], f"{path}.{key}")
                for key, item in value.items()
            }
        if issubclass(kind, msgspec.Struct):
            return self.struct(value, kind, path)
        if not isinstance(value, str):
            raise _wrong(path, value, "a single value", secret=kind is Secret)
        return _scalar(value, kind, path)


def _scalar(text: str, kind: Any, path: str) -> Any:
    if kind is str or kind is Secret:
        return kind(text)
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise _wrong(path, text, "true or false")
        return text.lower() in _TRUE
    if kind is Seconds:
        return _duration(text, path)
    if kind is SizeBytes:
        return _size(text, path)
    if kind is LengthOrSize:
        return _length_or_size(text, path)
    if issubclass(kind, Parsed):
        try:
            return kind.parse(text)
        except ValueError as error:
            raise _wrong(path, text, str(error)) from None
    if issubclass(kind, Enum):
        try:
            return kind(text)
        except ValueError:
            raise _wrong(path, text, "one of " + ", ".join(str(m.value) for m in kind)) from None
    try:
        return kind(text)
    except ValueError:
        raise _wrong(path, text, "a whole number" if kind is int else "a number") from None


def _duration(text: str, path: str) -> Seconds:
    """Go's form. A bare number is refused: to Go it means nanoseconds, to people seconds; unless it is so
    large that it can only be nanoseconds."""
    if len(text) > _MAX_CHARS:
        raise _wrong(path, text[:_MAX_CHARS] + "...", "a duration with its unit, like 90s or 1h30m")
    if text.strip() == "0":
        return Seconds(0)
    if text.strip().isdecimal() and len(text) <= _INT64_DIGITS and int(text) >= MIN_NANOSECONDS:
        return Seconds(int(text) / 1e9)
    try:
        if text.strip().lstrip("+-").replace(".", "", 1).isdigit():
            raise ValueError("no unit")
        seconds = durationpy.from_str(text).total_seconds()
    except (ValueError, OverflowError, durationpy.DurationError):
        raise _wrong(path, text, "a duration with its unit, like 90s or 1h30m") from None
    if seconds < 0:
        raise _wrong(path, text, "a duration that is not negative")
    return Seconds(seconds)


def _size(text: str, path: str) -> SizeBytes:
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise _wrong(path, text, "a size, like 500MB, 2GiB or a number of bytes")
    size_bytes = int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit
    if size_bytes > _LARGEST_BYTES:
        raise _wrong(path, text, "a size that a disk could have")
    return SizeBytes(size_bytes)


def _length_or_size(text: str, path: str) -> LengthOrSize:
    found = _SIZE.fullmatch(text.strip())
    if found and found[2].lower() in _UNITS:
        return LengthOrSize(size=int(_size(text, path)))
    try:
        return LengthOrSize(length=float(_duration(text, path)))
    except EgressError:
        raise _wrong(path, text[:_MAX_CHARS], "a length or a size with its unit, like 10m or 500MB") from None


def _flag(value: Any, path: str) -> str | bool | None:
    """A Chrome flag: true sets it, false removes it, and text is its value."""
    if not isinstance(value, str):
        raise _wrong(path, value, "true, false or text")
    return {"true": True, "false": False, "": None}.get(value, value)


def _wrong(path: str, value: Any, expected: str, secret: bool = False) -> EgressError:
    match value:
        case str() if secret:
            shown = "the text there (a secret, not shown)"
        case str():
            shown = f'"{value}"'
        case list():
            shown = "a list"
        case _:
            shown = "a block of keys"
    return invalid(f"{path or 'configuration'}: {shown} is not {expected}")


def near(key: str, known: Iterable[str]) -> str:
    """A hint at the end of a sentence about an unknown key; "" where no known key resembles it."""
    found = difflib.get_close_matches(key[:_MAX_CHARS], list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
