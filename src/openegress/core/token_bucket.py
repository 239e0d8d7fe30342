"""A token bucket: limits how much is done in a time, and allows bursts. Pure."""

from dataclasses import dataclass

from openegress.core.units import S


@dataclass(frozen=True, slots=True)
class RefillRate:
    """A sustained rate, and a burst."""

    per_s: float
    burst: float


class TokenBucket:
    """Fills at the rate, up to its burst. Times are monotonic ns."""

    def __init__(self, rate: RefillRate, share: float = 1.0) -> None:
        """The bucket starts with this `share` of the burst."""
        self.per_s = rate.per_s
        self.burst = rate.burst
        self._left = share * rate.burst
        self._at_ns: int | None = None

    @property
    def is_overdrawn(self) -> bool:
        """At the last call of spend()."""
        return self._left < 0

    def left(self, now_ns: int) -> float:
        """Negative after more was spent than the bucket held."""
        at_ns = self._at_ns
        if at_ns is None:
            self._at_ns = now_ns
        elif now_ns > at_ns:
            left = self._left + (now_ns - at_ns) * self.per_s / S
            self._left = left if left < self.burst else self.burst
            self._at_ns = now_ns
        return self._left

    def wait_s(self, amount: float, now_ns: int) -> float:
        """Seconds until it holds `amount`."""
        return max(0.0, amount - self.left(now_ns)) / self.per_s

    def spend(self, amount: float, now_ns: int) -> bool:
        """False: it held too little."""
        self._left = self.left(now_ns) - amount
        return self._left >= 0
