"""Leases: who runs an egress, said again and again while it is true. One that runs out tells of a death."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

LEASE_S = 30.0
"""How long a lease lasts: a worker may miss some heartbeats, and its death is noticed within a minute."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that ran out."""

    egress_id: str
    worker_id: str
    silent_s: float
    """Since the worker was last heard of."""


class Leases(Protocol):
    """Raises EgressError (unavailable) where the leases cannot be reached."""

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        """The worker runs these: their leases last another LEASE_S."""

    async def release(self, egress_ids: Collection[str]) -> None:
        """These run no more."""

    async def take(self, worker_id: str, egress_id: str) -> bool:
        """Makes the worker the one that settles an egress nobody holds; False when somebody does."""

    async def lost(self) -> Sequence[Lost]: ...

    async def held(self) -> Collection[str]:
        """Every egress that has a lease, run out or not."""

    async def close(self) -> None: ...


class MemoryLeases:
    """Leases of a service that is one process: they end with it, and so does what it ran."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._leases: dict[str, tuple[str, float]] = {}

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        for egress_id in egress_ids:
            self._leases[egress_id] = (worker_id, self._now_s() + LEASE_S)

    async def release(self, egress_ids: Collection[str]) -> None:
        for egress_id in egress_ids:
            self._leases.pop(egress_id, None)

    async def take(self, worker_id: str, egress_id: str) -> bool:
        _, until_s = self._leases.get(egress_id, ("", self._now_s()))
        if until_s > self._now_s():
            return False
        await self.hold(worker_id, [egress_id])
        return True

    async def lost(self) -> Sequence[Lost]:
        now_s = self._now_s()
        return [
            Lost(egress_id, worker_id, now_s - until_s + LEASE_S)
            for egress_id, (worker_id, until_s) in self._leases.items()
            if until_s <= now_s
        ]

    async def held(self) -> Collection[str]:
        return set(self._leases)

    async def close(self) -> None:
        self._leases.clear()
