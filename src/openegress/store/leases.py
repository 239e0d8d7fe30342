"""Leases say which worker runs an egress. The worker renews them; a lease that expires means that it died.

A lease belongs to one worker, or is a share: any number of workers may have a share of what no worker has as
a whole.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

LEASE_S = 30.0
"""Lifetime of a lease: a worker may miss some heartbeats, and its death is noticed within a minute."""


_SHARE = "\x1f"


def share(lease: str, worker_id: str) -> str:
    """The lease by which this worker has a share of `lease`."""
    return f"{lease}{_SHARE}{worker_id}"


def divided(lease: str) -> tuple[str, str]:
    """Divides a lease into what it is of and the worker whose share it is, or "". It reverses share()."""
    whole, _, worker_id = lease.partition(_SHARE)
    return whole, worker_id


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that expired."""

    egress_id: str
    worker_id: str
    silent_s: float
    """Time since the worker's last heartbeat."""


class Leases(Protocol):
    """Leases of all workers. Every method raises EgressError (UNAVAILABLE) if the leases cannot be
    reached."""

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        """Gives the worker leases of these egresses, or renews them, for LEASE_S."""

    async def release(self, egress_ids: Collection[str]) -> None:
        """Ends the leases of these egresses."""

    async def take(self, worker_id: str, egress_id: str) -> bool:
        """Gives the worker the lease if nobody has one that is still valid; otherwise returns False. A share
        is given unless another worker has the whole, and the whole unless another worker has a share."""

    async def lost(self) -> Sequence[Lost]:
        """Returns all leases that expired."""

    async def held(self) -> Collection[str]:
        """Returns the ids of all egresses with a lease, valid or not."""

    async def close(self) -> None:
        """Disconnects. Idempotent."""


class MemoryLeases:
    """Leases of a service in one process. They end with the process, like its egresses."""

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
        whole, sharer = divided(egress_id)
        for other, (holder, until_s) in self._leases.items():
            of, other_sharer = divided(other)
            is_same = of == whole and not (sharer and other_sharer)
            is_ours = holder == worker_id and (sharer or other_sharer)
            if is_same and not is_ours and until_s > self._now_s():
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
