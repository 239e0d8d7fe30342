"""All egresses of this worker: starts, finds, stops and awaits them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog

from openegress.core import ipc
from openegress.core.events import EndReason
from openegress.core.plan import Plan
from openegress.core.tasks import non_fatal
from openegress.storage.seal import Seal
from openegress.worker.compose_turns import ComposeTurns
from openegress.worker.handler_link import OnLog
from openegress.worker.job import EarlierStart, HandlerServices, HandlerSpawner, Job, OnObserverEvent
from openegress.worker.job_keys import NO_KEYS, JobKeys
from openegress.worker.pool import Pool
from openegress.worker.put_permits import OnNames
from openegress.worker.records import Record
from openegress.worker.room_check import RoomCheck

_log = structlog.get_logger(__name__)
_handler_log = structlog.get_logger("openegress.handler")

_OUR_FIELDS = frozenset({"event", "level", "logger", "timestamp"})
"""Keys of every log line; a handler's fields with these names are renamed (a page's console has a level)."""

OnEnd = Callable[[Job], None]
KeysOf = Callable[[str], JobKeys]
"""Returns the source of keys by the name of a room."""


class Supervisor:
    """Owns the task of every job."""

    def __init__(
        self,
        pool: Pool,
        on_end: OnEnd,
        on_observer_event: OnObserverEvent | None = None,
        on_log: OnLog | None = None,
        keys_of: KeysOf = lambda _: NO_KEYS,
        turns: ComposeTurns | None = None,
        rooms: RoomCheck | None = None,
        seal: Seal | None = None,
    ) -> None:
        """`rooms` is None if recordings are not of rooms. `seal` is None if no later worker continues."""
        self._pool = pool
        self._keys_of = keys_of
        self._turns = turns or ComposeTurns(1)
        self._rooms = rooms or RoomCheck()
        self._seal = seal
        self._on_log = on_log or relay_log
        self._on_end = on_end
        self._on_observer_event = on_observer_event
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, egress_id: str) -> Job | None:
        return self._jobs.get(egress_id)

    def launch(self, plan: Plan, kind: str, record: Record, claim_names: OnNames | None = None) -> Job:
        """Takes a handler and gives it the plan. Returns at once."""
        job = self._job(plan, kind, record, claim_names)
        self._start(job, job.run(self._spawner(plan)))
        return job

    def go_on(self, plan: Plan, kind: str, record: Record, claim_names: OnNames, *, has_begun: bool) -> Job:
        """Like launch(), for a recording that an earlier process of this worker began. `has_begun`: its part
        has something to continue."""
        job = self._job(plan, kind, record, None if has_begun else claim_names)
        begun = EarlierStart.HERE if has_begun else EarlierStart.ELSEWHERE_LEFT
        self._start(job, job.run(self._spawner(plan), begun))
        return job

    def take_over(self, plan: Plan, kind: str, record: Record, claim_names: OnNames) -> Job:
        """Like launch(), for another part of a recording that another worker began."""
        job = self._job(plan, kind, record, claim_names)
        self._start(job, job.run(self._spawner(plan), EarlierStart.ELSEWHERE))
        return job

    def _job(self, plan: Plan, kind: str, record: Record, claim_names: OnNames | None = None) -> Job:
        services = HandlerServices(claim_names, self._keys_of(plan.room_name), self._turns, self._sealed)
        return Job(plan, kind, record, self._on_log, self._on_observer_event, services)

    def _sealed(self, data: bytes) -> str:
        return "" if self._seal is None else self._seal.of(data)

    def _spawner(self, plan: Plan) -> HandlerSpawner:
        return HandlerSpawner(lambda: self._pool.take(plan), self._pool.spawn, self._rooms.is_on)

    def recover(self, plan: Plan, kind: str, record: Record, text: str, *, had_ended: bool = False) -> Job:
        """Finishes what an earlier process of this worker left of an egress, which ends as FAILED with
        `text`."""
        services = HandlerServices(turns=self._turns, seal=self._sealed)
        job = Job(plan, kind, record, self._on_log, self._on_observer_event, services, had_ended=had_ended)
        self._start(job, job.finish_left(self._pool.spawn, text))
        return job

    def stop_all(self, reason: EndReason) -> None:
        for job in self:
            job.stop(reason)

    def leave_all(self) -> None:
        """Leaves the recordings that the next process of this worker continues."""
        for job in self:
            if job.leave():
                _log.warning("the next start will continue a recording", egress_id=job.plan.egress_id)

    async def wait(self, egress_id: str, timeout_s: float) -> bool:
        """Waits for the end of an egress, at most `timeout_s`. Returns whether it has ended."""
        task = self._tasks.get(egress_id)
        return task is None or bool((await asyncio.wait([task], timeout=timeout_s))[0])

    async def wait_idle(self) -> None:
        """Returns when no egress runs here."""
        await self._idle.wait()

    def _start(self, job: Job, life: Coroutine[Any, Any, None]) -> None:
        egress_id = job.plan.egress_id
        self._jobs[egress_id] = job
        self._idle.clear()
        self._tasks[egress_id] = asyncio.create_task(self._live(job, life), name=f"egress {egress_id}")

    async def _live(self, job: Job, life: Coroutine[Any, Any, None]) -> None:
        egress_id = job.plan.egress_id
        try:
            await life
        except Exception:
            _log.exception("egress task failed", egress_id=egress_id)
        finally:
            del self._jobs[egress_id], self._tasks[egress_id]
            with non_fatal("counting an end"):
                self._on_end(job)
            if not self._jobs:
                self._idle.set()


def relay_log(egress_id: str, record: ipc.Log) -> None:
    """Writes a handler's log record as one of ours."""
    level = logging.getLevelNamesMapping().get(record.level.upper(), logging.INFO)
    fields = {f"its_{key}" if key in _OUR_FIELDS else key: value for key, value in record.fields.items()}
    _handler_log.log(level, record.event, **(fields | {"egress_id": egress_id}))
