"""The storage paths that this worker's recordings write, so that no other recording writes there."""

import asyncio
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import structlog

from openegress.core.errors import Code, EgressError
from openegress.core.ipc import ClaimNames
from openegress.core.plan import Plan
from openegress.core.storages import StoragePlan
from openegress.request import naming, places
from openegress.storage.name_case import is_folding
from openegress.store.leases import Leases, divided, share

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
_PAUSE_S = 0.5
"""Pause before a second try: another worker reports the end of an egress a moment before it releases its
paths."""


class Paths:
    """Holds paths from a start until its egress has ended. Other workers learn of them by leases."""

    def __init__(self, leases: Leases, worker_id: str, is_over: Callable[[str], bool]) -> None:
        """`is_over` says whether an egress, by its id, has ended and written everything."""
        self._leases = leases
        self._worker_id = worker_id
        self._is_over = is_over
        self._machine = platform.node()
        self._held: dict[str, frozenset[str]] = {}
        """Paths by egress; includes those that are just being claimed."""
        self._taken: set[str] = set()

    def held(self) -> frozenset[str]:
        """All paths of this worker, for its heartbeat. It omits paths whose claim is in progress: a heartbeat
        that held them too early would make the claim fail."""
        return frozenset(self._taken)

    async def keep(self, plan: Plan, names: Mapping[str, str]) -> None:
        """Keeps the paths of a recovery, even if another recording has begun to write there since. `names`
        are the names of its outputs."""
        told = ClaimNames({key: value for key, value in names.items() if key != naming.MARK})
        filled = places.filled(plan, told, names.get(naming.MARK, ""))
        held = await self._places_of(plan) | await self._places_of(filled)
        leases = self._leases_of(held)
        self._held[plan.egress_id] = held
        self._taken |= leases
        try:
            for lease in sorted(leases):
                await self._leases.take(self._worker_id, lease)
        except EgressError as away:
            # The next heartbeat includes them.
            log = _log.bind(egress_id=plan.egress_id)
            log.warning("other workers do not know yet where a recovery writes", error=away.text)

    async def claim_clip(self, clip_id: str, storage: StoragePlan, path: str) -> None:
        """Claims a path for a clip until release(). Raises EgressError if a running recording, or another
        clip in progress, writes there, or the leases cannot be reached."""
        place = await asyncio.to_thread(places.place_of_clip, storage, path, self._machine, is_folding)
        taken = await self._claim(clip_id, frozenset({place}))
        if taken is not None:
            why = f"filepath: {path!r} is being written by a recording or a clip; give another name"
            raise EgressError(Code.ALREADY_EXISTS, why)

    async def claim(self, plan: Plan) -> str | None:
        """Claims all paths of a plan. Returns the path that another recording has; None: all are claimed.

        Raises EgressError if two outputs of the plan have the same path, or the leases cannot be reached.
        """
        return await self._claim(plan.egress_id, await asyncio.to_thread(self._checked_places, plan))

    def _checked_places(self, plan: Plan) -> frozenset[str]:
        """Returns the places of a plan. Raises EgressError if two of its outputs share one. Blocking."""
        folds = cache(is_folding)  # outputs share folders, and each look is at a disk
        places.check_apart(plan, folds)
        return places.places_of(plan, self._machine, folds)

    async def _places_of(self, plan: Plan) -> frozenset[str]:
        return await asyncio.to_thread(places.places_of, plan, self._machine, cache(is_folding))

    def _leases_of(self, held: Iterable[str]) -> frozenset[str]:
        """The leases for places: these, and shares of those that stand for many names."""
        held = frozenset(held)
        return held | {share(place, self._worker_id) for place in places.around(held)}

    async def _claim(self, holder: str, wanted: frozenset[str]) -> str | None:
        """Claims places for `holder`, an egress or a clip. Returns a place that another one has, if any."""
        before = self._held.get(holder, frozenset())
        for other, held in self._held.items():
            if other != holder and (place := places.shared(held, wanted)) and not self._is_over(other):
                return place
        self._held[holder] = before | wanted
        claimed: set[str] = set()
        for lease in sorted(self._leases_of(wanted) - self._taken):
            if not await self._take(lease):
                self._held[holder] = before
                self._taken -= claimed
                await self._leases.release(claimed)
                return divided(lease)[0]
            claimed.add(lease)
            self._taken.add(lease)
        return None

    async def claim_filled(self, plan: Plan, told: ClaimNames, marks: Sequence[str]) -> str:
        """Claims, in addition to the plan's paths, its names once the room has filled their placeholders.
        Returns the first of `marks` with which no other recording has them.

        Raises EgressError if there is none, two outputs have the same path, or the leases cannot be reached.
        """
        place = ""
        for mark in marks:
            taken = await self.claim(places.filled(plan, told, mark))
            if taken is None:
                return mark
            place = taken
        raise places.taken(place)

    async def release(self, egress_id: str) -> None:
        """Releases the paths of an egress or a clip, except those that another one of ours has taken over
        meanwhile."""
        left = self._leases_of(self._held.pop(egress_id, frozenset()))
        left -= self._leases_of(frozenset[str]().union(*self._held.values()))
        self._taken -= left
        try:
            await self._leases.release(left)
        except EgressError as away:
            _log.warning(
                "cannot release leases of paths: they expire later", egress_id=egress_id, error=away.text
            )

    async def _take(self, lease: str) -> bool:
        for _ in range(_ATTEMPTS - 1):
            if await self._leases.take(self._worker_id, lease):
                return True
            await asyncio.sleep(_PAUSE_S)
        return await self._leases.take(self._worker_id, lease)
