"""Decides which recordings are composed now and which wait: first come, first served."""

from collections.abc import Callable

OnTurn = Callable[[int], None]
"""Called when a recording's turn comes, and at each change of its argument: the number of waiting recordings
for each one that is composed."""


class ComposeTurns:
    """The turns of one machine."""

    def __init__(self, most: int) -> None:
        """`most` is how many recordings may be composed at a time."""
        self._most = most
        self._waiting: dict[ComposePlace, OnTurn] = {}
        """The waiting places, in order of arrival."""
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
    """The place of one handler in the queue."""

    def __init__(self, turns: ComposeTurns) -> None:
        self._turns = turns
        self._is_in = False
        self.told: int | None = None
        """The argument of the last call of OnTurn; None: the place's turn has not come."""

    def ask(self, on_turn: OnTurn) -> None:
        """Enters the queue. Only the first call counts."""
        if not self._is_in:
            self._is_in = True
            self._turns.enter(self, on_turn)

    def leave(self) -> None:
        """Leaves the queue, because the handler has ended."""
        if self._is_in:
            self._turns.leave(self)
