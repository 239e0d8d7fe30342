"""Decides with which picture a recording of simulcast or SVC layers begins. Pure.

An SFU forwards any layer for which it has a key frame, and the requested one a moment later. A file that
began with the first of them would declare that layer's size.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

WAIT_NS = 600_000_000
"""For the layer that was announced: an SFU has it within one round trip to its sender. Less than the second
within which media is on disk."""

_ALIKE = 0.9
"""Of the announced area: senders round sizes to what their encoder takes."""

T = TypeVar("T")


class _State(Enum):
    WAITING = auto()
    BEGUN = auto()


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    at_ns: int
    area: int
    """Of a key frame; 0: any other picture."""
    item: T


class FirstLayer(Generic[T]):
    """Holds the first pictures back until one of the announced size comes, or the wait is over."""

    def __init__(self, width: int, height: int) -> None:
        """`width`, `height`: as announced; 0: unknown, and nothing is waited for."""
        self._area = width * height
        self._state = _State.WAITING if self._area else _State.BEGUN
        self._held: list[_Held[T]] = []
        self.left_out = 0
        """Pictures of smaller layers from before the beginning."""

    @property
    def is_waiting(self) -> bool:
        """With a picture."""
        return bool(self._held)

    def take(self, at_ns: int, width: int, height: int, item: T) -> list[T]:
        """Returns what to record now. Width and height are those of key frames, otherwise 0."""
        if self._state is _State.BEGUN:
            return [item]
        self._held.append(_Held(at_ns, width * height, item))
        if width * height >= self._area * _ALIKE or at_ns - self._held[0].at_ns >= WAIT_NS:
            return self.begin()
        return []

    def begin(self) -> list[T]:
        """The wait is over: returns all pictures from the first key frame of the largest layer on."""
        self._state = _State.BEGUN
        held, self._held = self._held, []
        largest = max((each.area for each in held), default=0)
        first = next((n for n, each in enumerate(held) if each.area == largest), 0)
        self.left_out = first
        return [each.item for each in held[first:]]
