"""Divides room that all people of a meeting fill together. Pure.

Nobody gets more than they leave to everybody else. So one who sends without end gets half of it, and however
many do, the next one finds as much as each of them has.
"""

from collections import Counter


class FairShare:
    def __init__(self, most: int) -> None:
        self._left = most
        self._taken: Counter[str] = Counter()

    def take(self, who: str, amount: int) -> bool:
        """False: `who` would have more than is left, and takes nothing."""
        taken, left = self._taken[who] + amount, self._left - amount
        if taken > left:
            return False
        self._taken[who], self._left = taken, left
        return True

    def give_back(self, who: str, amount: int) -> None:
        """Takes back what `who` took before and no longer needs."""
        self._taken[who] -= amount
        self._left += amount
        if not self._taken[who]:
            del self._taken[who]
