"""How often to continue a recording whose handlers die. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_DEATHS = 3
WITHIN_S = 60.0
"""Whatever kills a handler at once, such as a picture that crashes its decoder, would kill every one of
them."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """After `most` deaths within `within_s`, the recording is not continued."""

    most: int = MAX_DEATHS
    within_s: float = WITHIN_S

    def allows(self, deaths_s: Sequence[float], now_s: float) -> bool:
        """`deaths_s`: the deaths of all its handlers until now, on the monotonic clock."""
        return sum(now_s - each <= self.within_s for each in deaths_s) < self.most
