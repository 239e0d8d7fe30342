"""How often a recording is gone on with whose handlers die. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_DEATHS = 3
WITHIN_S = 60.0
"""What kills a handler at once, such as a picture that its decoder does not survive, would kill each one."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The `most`th death within `within_s` is the last one."""

    most: int = MOST_DEATHS
    within_s: float = WITHIN_S

    def allows(self, deaths_s: Sequence[float], now_s: float) -> bool:
        """`deaths_s`: of all handlers of a recording until now, on the monotonic clock."""
        return sum(now_s - each <= self.within_s for each in deaths_s) < self.most
