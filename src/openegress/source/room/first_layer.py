"""Decides which picture begins a recording of simulcast or SVC layers. Pure.

An SFU forwards any layer that has a key frame, and the requested one a moment later. A file that began with
the former would declare that layer's size.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

WAIT_NS = 600_000_000
"""Limit for the wait for the announced layer, which an SFU has within one round trip to its sender. It is
shorter than the second within which media is on disk."""

_ALIKE = 0.9
"""Minimum share of the announced area: senders round sizes to what their encoder supports."""

T = TypeVar("T")


class _State(Enum):
    WAITING = auto()
    BEGUN = auto()


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    at_ns: int
    area: int
    """Area of a key frame; 0 for other pictures."""
    item: T


class FirstLayer(Generic[T]):
    """Holds back the first pictures until one of the announced size comes, or the wait is over."""

    def __init__(self, width: int, height: int) -> None:
        """`width`, `height`: as announced; 0: unknown, so that nothing is held back."""
        self._area = width * height
        self._state = _State.WAITING if self._area else _State.BEGUN
        self._held: list[_Held[T]] = []
        self.left_out = 0
        """Pictures of smaller layers before the beginning."""

    @property
    def is_waiting(self) -> bool:
        """Whether it holds a picture."""
        return bool(self._held)

    def take(self, at_ns: int, width: int, height: int, item: T) -> list[T]:
        """Takes a picture. Returns the pictures to record now. Width and height are a key frame's, otherwise
        0."""
        if self._state is _State.BEGUN:
            return [item]
        self._held.append(_Held(at_ns, width * height, item))
        if width * height >= self._area * _ALIKE or at_ns - self._held[0].at_ns >= WAIT_NS:
            return self.begin()
        return []

    def begin(self) -> list[T]:
        """Ends the wait: returns all pictures from the largest layer's first key frame on."""
        self._state = _State.BEGUN
        held, self._held = self._held, []
        largest = max((each.area for each in held), default=0)
        first = next((n for n, each in enumerate(held) if each.area == largest), 0)
        self.left_out = first
        return [each.item for each in held[first:]]
