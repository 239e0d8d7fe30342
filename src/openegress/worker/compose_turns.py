"""Which recordings are composed now, and which wait: those that came first go first."""

from collections.abc import Callable

OnTurn = Callable[[int], None]
"""Told how many wait for each that is composed: when its turn comes, and whenever that changes."""


class ComposeTurns:
    """Of one machine."""

    def __init__(self, most: int) -> None:
        """`most` are composed at a time."""
        self._most = most
        self._waiting: dict[ComposePlace, OnTurn] = {}
        """In their order."""
        self._composing: dict[ComposePlace, OnTurn] = {}

    def place(self) -> "ComposePlace":
        return ComposePlace(self)

    def enter(self, place: "ComposePlace", on_turn: OnTurn) -> None:
        self._waiting[place] = on_turn
        self._changed()

    def leave(self, place: "ComposePlace") -> None:
        self._waiting.pop(place, None)
        self._composing.pop(place, None)
        self._changed()

    def _changed(self) -> None:
        while self._waiting and len(self._composing) < self._most:
            first = next(iter(self._waiting))
            self._composing[first] = self._waiting.pop(first)
        behind = -(-len(self._waiting) // self._most)
        for place, on_turn in self._composing.items():
            if place.told != behind:
                place.told = behind
                on_turn(behind)


class ComposePlace:
    """Of one handler in the queue."""

    def __init__(self, turns: ComposeTurns) -> None:
        self._turns = turns
        self._is_in = False
        self.told: int | None = None
        """How many wait, as it knows; None: its turn has not come."""

    def ask(self, on_turn: OnTurn) -> None:
        """Once."""
        if not self._is_in:
            self._is_in = True
            self._turns.enter(self, on_turn)

    def leave(self) -> None:
        """The handler is gone."""
        if self._is_in:
            self._turns.leave(self)
