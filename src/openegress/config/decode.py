"""YAML text to typed settings: one walk that converts, and collects what it does not know.

All scalars are read as the text they are written as, and take the type of the setting they are for: a
password of digits stays what it is, and a port may be quoted.
"""

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

import durationpy
import msgspec
import yaml

from openegress.config.values import Seconds, Secret
from openegress.core.errors import EgressError, invalid

S = TypeVar("S", bound=msgspec.Struct)

_TRUE = frozenset({"true", "yes", "on", "y", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "0"})
LEAST_NANOSECONDS = 1_000_000


class _TextLoader(yaml.SafeLoader):
    """SafeLoader that knows null and merge keys, and else leaves scalars as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own shape
        first: [resolver for resolver in resolvers if resolver[0].endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(text: str) -> dict[str, Any]:
    """The document's mapping; {} for an empty one. Raises EgressError with the line of a mistake."""
    try:
        tree = yaml.load(text, Loader=_TextLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise invalid(f"{line}not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise invalid(f"not YAML: {type(error).__name__}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise invalid("the configuration is a mapping of keys to values, as in reference.yaml")
    return tree


@dataclass(slots=True)
class Decoder:
    """Turns a tree of mappings, lists and text into structs; `warnings` gathers what it passed over."""

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
                self.warnings.append(_unknown(where, str(key), list(hints)))
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
    if text.strip() == "0":
        return Seconds(0)
    if text.strip().isdecimal() and int(text) >= LEAST_NANOSECONDS:
        return Seconds(int(text) / 1e9)
    try:
        if text.strip().lstrip("+-").replace(".", "", 1).isdigit():
            raise ValueError("no unit")
        seconds = durationpy.from_str(text).total_seconds()
    except (ValueError, durationpy.DurationError):
        raise _wrong(path, text, "a duration with its unit, like 90s or 1h30m") from None
    if seconds < 0:
        raise _wrong(path, text, "a duration that is not negative")
    return Seconds(seconds)


def _flag(value: Any, path: str) -> str | bool | None:
    """A Chrome flag: true sets it, false removes it, text is its value."""
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


def _unknown(path: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{path}: unknown key, ignored{hint}"
