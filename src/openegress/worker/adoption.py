"""Finishes what an earlier process of this worker, or uploads that were given up, left in the spool."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from openegress.core.errors import EgressError
from openegress.core.plan import Plan
from openegress.core.render import Render
from openegress.core.tasks import cancelled, non_fatal
from openegress.storage.journal import Journal, has_journal, is_held
from openegress.worker.leftovers import (
    ASK_AGAIN_S,
    Leftover,
    LeftRecording,
    Lookup,
    find_leftovers,
    leftover,
    taken_over,
)
from openegress.worker.paths import Paths
from openegress.worker.supervisor import Supervisor

_log = structlog.get_logger(__name__)

RETRY_S = 600.0
"""Interval at which a storage that accepted nothing for all of retries.upload_for is tried again."""
_MAX_CONCURRENT = 2
"""Limit for concurrent recoveries: each is a process that may remux hours of media while recordings need the
machine."""
_PATIENCE_S = 120.0
"""How long a recovery keeps its turn when others wait: a longer one mostly waits for its storage."""

_AFTER_DEATH = "the worker ended while it recorded this"
_NOT_STORED = "its files could not be stored earlier"


@dataclass(frozen=True, slots=True)
class Round:
    """The kind of a pass over the spool. The first pass waits for a folder that another process holds,
    because a handler may have outlived its worker and no other process learns of its end. It also reports
    recordings that have no record."""

    text: str
    is_first: bool
    leaves_resumable: bool = False
    """Leaves recordings that can continue to the service that continues them."""


FIRST = Round(_AFTER_DEATH, is_first=True)
BESIDE = Round(_AFTER_DEATH, is_first=False, leaves_resumable=True)
"""The first pass of a process that shares the spool with a service, which may be at work there."""
LATER = Round(_NOT_STORED, is_first=False)


class Adoption:
    """Looks at the start and then every `RETRY_S`. Never touches what runs here."""

    def __init__(
        self,
        spool: Path,
        lookup: Lookup,
        supervisor: Supervisor,
        paths: Paths,
        is_busy: Callable[[str], bool],
        recover: Callable[[Leftover, str, bool], None],
        go_on: Callable[[Leftover], Awaitable[None]],
        is_ours: Callable[[Leftover], Awaitable[bool]],
    ) -> None:
        """`is_busy` says which egresses run or are reported here. `recover` starts a job for an egress, with
        the text to end it with and whether to report its end. `go_on` starts a job that continues the
        recording. `is_ours` says that no other worker has taken it over, nor can from then on; it may raise
        EgressError."""
        self._spool = spool
        self._lookup = lookup
        self._supervisor = supervisor
        self._paths = paths
        self._is_busy = is_busy
        self._recover = recover
        self._go_on = go_on
        self._is_ours = is_ours
        self._waiting: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> Collection[str]:
        """Ids of egresses that wait for their recovery. They belong to this worker as much as those that
        run."""
        return self._waiting

    def start(self, reason: Round = FIRST) -> None:
        self._task = asyncio.create_task(self._run(reason), name="adopt")

    async def close(self) -> None:
        """Stops starting recoveries. The supervisor owns those in progress."""
        await cancelled(self._task)

    async def _run(self, reason: Round) -> None:
        while True:
            try:
                await self.look(reason)
            except Exception:
                # A disk that does not answer now must not stop the looks until the next restart.
                _log.exception("looking for leftover recordings failed")
            for egress_id in list(self._waiting):
                await self._pass_over(egress_id)
            reason = replace(LATER, leaves_resumable=reason.leaves_resumable)
            await asyncio.sleep(RETRY_S)

    async def look(self, reason: Round) -> None:
        """Goes over the spool once. Returns when the last recovery has ended, except for recordings that are
        being composed."""
        found = await find_leftovers(self._spool)
        if reason.leaves_resumable:
            found = [left for left in found if not left.plan.resumes]
        plans = [left.plan for left in found if not self._is_busy(left.plan.egress_id)]
        # Each second before a recording continues is missing from it.
        queue = deque(sorted(plans, key=lambda plan: not plan.resumes))
        self._waiting = {plan.egress_id for plan in queue}
        for each in found:
            with non_fatal("cannot keep the paths of a leftover recording"):
                await self._keep_paths(each, reason)
        turns = asyncio.Semaphore(_MAX_CONCURRENT)
        async with asyncio.TaskGroup() as group:
            while queue:
                await turns.acquire()
                left = await self._next(queue, reason)
                if left is None:
                    break
                group.create_task(self._finish(left, reason, queue, turns))

    async def _keep_paths(self, left: LeftRecording, reason: Round) -> None:
        """Keeps the paths before a recording's turn comes, so that no other recording begins to write
        there."""
        egress_id = left.plan.egress_id
        if egress_id in self._waiting and await self._is_left(egress_id, reason):
            await self._paths.keep(left.plan, left.names)

    async def _next(self, queue: deque[Plan], reason: Round) -> Leftover | None:
        """Returns the next recording whose record was found. Those whose record cannot be read wait behind
        the others."""
        warned: set[str] = set()
        while queue:
            plan = queue.popleft()
            egress_id = plan.egress_id
            try:
                if await self._is_left(egress_id, reason):
                    left = await leftover(plan, self._lookup)
                    journal = await asyncio.to_thread(Journal.load, self._spool / egress_id, mends=False)
                    left = replace(left, had_ended=journal.has_ended, has_begun=journal.has_begun)
                    if not await self._is_ours(left):
                        left = taken_over(plan)
                    if not self._is_busy(egress_id):
                        return left
            except EgressError as error:
                if egress_id not in warned:
                    _log.warning("a recovery waits for its record", egress_id=egress_id, error=error.text)
                warned.add(egress_id)
                queue.append(plan)
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            except Exception:
                _log.exception("a leftover recording is skipped", egress_id=egress_id)
            await self._pass_over(egress_id)
        return None

    async def _pass_over(self, egress_id: str) -> None:
        """Takes a recording out of the queue. Its paths are free for others, unless it runs here after
        all."""
        self._waiting.discard(egress_id)
        if not self._is_busy(egress_id):
            await self._paths.release(egress_id)

    async def _is_left(self, egress_id: str, reason: Round) -> bool:
        """Whether it still waits: it may have been finished or started again since it was found."""
        folder = self._spool / egress_id
        if self._is_busy(egress_id) or not await asyncio.to_thread(has_journal, folder):
            return False
        return reason.is_first or not await asyncio.to_thread(is_held, folder)

    async def _finish(
        self, left: Leftover, reason: Round, queue: deque[Plan], turns: asyncio.Semaphore
    ) -> None:
        egress_id = left.plan.egress_id
        try:
            if left.may_go_on:
                await self._go_on(left)
                self._waiting.discard(egress_id)
                return
            # A record that was deleted since must not come back with every round.
            self._recover(left, reason.text, left.on_record or reason.is_first)
            self._waiting.discard(egress_id)
            if left.plan.render is Render.DEFERRED:
                return  # Composing takes hours, and has a queue of its own.
            while not await self._supervisor.wait(egress_id, _PATIENCE_S):
                if queue and (job := self._supervisor.get(egress_id)) is not None:
                    job.stop_retrying()
        except Exception:
            _log.exception("a leftover recording could not be recovered", egress_id=egress_id)
        finally:
            turns.release()
