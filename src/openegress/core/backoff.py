"""Exponential back-off with jitter."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays double from `first_s` to `ceiling_s`. Each is multiplied by a random factor between `least` and
    `most`, so that clients that lost the same server do not return in step."""

    first_s: float = 1.0
    ceiling_s: float = 60.0
    least: float = 0.5
    most: float = 1.0
    random: Callable[[], float] = random.random
    """Draws from [0, 1); 0 gives the longest delay."""

    def delay_s(self, attempt: int) -> float:
        """The delay before attempt number `attempt` + 1, where the first attempt is 1."""
        whole = min(self.ceiling_s, self.first_s * 2.0 ** min(attempt - 1, 32))
        return whole * (self.most - self.random() * (self.most - self.least))
