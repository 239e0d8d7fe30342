"""Kinds of values a setting can have beyond text and numbers."""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable


@runtime_checkable
class Parsed(Protocol):
    """A kind of value with a form of its own."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, whose text says what `text` should be, as the end of a sentence."""


class Secret(str):
    """Text that prints as *** wherever it is printed or formatted; reveal() returns it. Methods that work on
    the characters (encode, comparison, hashing) see the real text."""

    __slots__ = ()

    def reveal(self) -> str:
        return "".join(self)

    def __repr__(self) -> str:
        return "***" if self else "''"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


class Seconds(float):
    """A duration; in YAML in Go's form: 90s, 1h30m, 250ms."""

    __slots__ = ()


class SizeBytes(int):
    """A size; written with a decimal or binary unit, or as a number of bytes: 500MB, 2GiB, 1000000."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class LengthOrSize:
    """Either a duration or a size: 10m, 500MB. 0: neither."""

    length: float = 0.0
    """Seconds."""
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.length or self.size)
