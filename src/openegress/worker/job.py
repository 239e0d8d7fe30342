"""One egress on this worker: its record, and what happens when its handler process dies."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import structlog
from livekit.protocol.egress import EgressStatus

from openegress.core import ipc
from openegress.core.deferred import MOST_TRIES
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.events import (
    Active,
    AnyEvent,
    Aside,
    AwaitingStart,
    Composing,
    Ended,
    Ending,
    EndReason,
    EndReport,
    MarkerAdded,
    Progress,
    Rejoined,
    Restarted,
    StoredBeside,
    Thumbnail,
    Uploaded,
)
from openegress.core.left_out import LeftOut
from openegress.core.live_state import LiveState
from openegress.core.plan import Plan, StreamTarget
from openegress.core.render import Render
from openegress.core.restart_policy import RestartPolicy
from openegress.core.tasks import beside
from openegress.request.later_part import may_have_parts
from openegress.worker.compose_turns import ComposeTurns
from openegress.worker.handler_link import Death, HandlerLink, OnLog, OnNames, between_two, not_running
from openegress.worker.job_keys import NO_KEYS, JobKeys
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record

_log = structlog.get_logger(__name__)

OnAside = Callable[["Job", Aside | Restarted], None]
Spawn = Callable[[], Awaitable[HandlerProcess]]


@dataclass(frozen=True, slots=True)
class Spawns:
    """Where the handlers of a recording come from, and whether another may go on with it."""

    start: Spawn
    """For the plan."""
    recover: Spawn
    """To finish what a dead one left."""
    is_room_on: Callable[[Plan], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Supplies:
    """What its handlers ask the worker for."""

    claim_names: OnNames | None = None
    """Asked once the room has told what placeholders stand for; without it, any name may be written."""
    room_keys: JobKeys = NO_KEYS
    """Should its room be encrypted."""
    turns: ComposeTurns = field(default_factory=lambda: ComposeTurns(1))
    seal: Callable[[Plan], str] = lambda plan: ""
    """By which a later life of this worker knows the plan again."""


class BegunAt(Enum):
    """Where a recording has begun before."""

    NOWHERE = auto()
    HERE = auto()
    """In an earlier life of this worker, whose spool has what was recorded."""
    ELSEWHERE = auto()
    """On another worker, which is lost: this one records another part."""
    ELSEWHERE_LEFT = auto()
    """The same, and a handler of this worker died before it had recorded anything of that part. What it left
    in the spool has to go first."""


class _Stage(Enum):
    RECORDED = auto()
    TAKEN_OVER = auto()
    """A handler is on its way to go on with what a dead one recorded."""
    FINISHING = auto()
    """A handler finishes what a dead one recorded."""
    LEFT = auto()
    """To whoever comes after this worker."""


class Job:
    """Owns the record from STARTING to its terminal state, and the handlers that work for it."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        record: Record,
        on_log: OnLog,
        on_aside: OnAside | None = None,
        supplies: Supplies = Supplies(),
        *,
        had_ended: bool = False,
    ) -> None:
        """`had_ended`: this is a recovery of an egress that has ended before, or goes on elsewhere."""
        self.plan = plan
        self.kind = kind
        self.record = record
        self.had_ended = had_ended
        self.started_s = time.monotonic()
        self.active_s: float | None = None
        """When it became active, on the monotonic clock."""
        self.progress: Progress | None = None
        self.composing: Composing | None = None
        """None: it has not come so far."""
        self.handlers = HandlerLink(
            plan, self._take, on_log, supplies.claim_names, supplies.turns, supplies.room_keys.ask
        )
        self._supplies = supplies
        self._on_aside = on_aside
        self._stop_reason: EndReason | None = None
        self._ended: Ended | None = None
        self._phase: Phase | None = None
        """START_SIGNAL while the page's signal is awaited."""
        self._stage = _Stage.RECORDED

    @property
    def ended(self) -> Ended | None:
        return self._ended

    def stop(self, reason: EndReason) -> None:
        """Asks for the end. Idempotent, but for KILLED: that hurries an end that is under way. Nothing comes
        of it where it is left to the next start."""
        if self.is_left:
            return
        if self._stop_reason is not None or self._ended is not None:
            if reason is EndReason.KILLED:
                self.handlers.stop(reason)
            return
        self._stop_reason = reason
        self.record.apply(Ending(reason, self._phase))
        self.handlers.stop(reason)

    def leave(self) -> bool:
        """Its handler goes at once, and the next life of this worker goes on with it. False: nobody would."""
        if self._stage is _Stage.FINISHING:
            return False
        has_begun = self.active_s is not None or self._stage is _Stage.TAKEN_OVER
        if not (self.plan.resumes and has_begun) or self._stop_reason is not None or self._ended is not None:
            return False
        self._stage = _Stage.LEFT
        self.handlers.kill()
        return True

    @property
    def is_left(self) -> bool:
        return self._stage is _Stage.LEFT

    @property
    def goes_on(self) -> bool:
        """Another worker is to go on with it, should this one be lost."""
        info = self.record.info
        is_over = self._stage in (_Stage.FINISHING, _Stage.LEFT) or self._stop_reason or self._ended
        is_on = info.status == EgressStatus.EGRESS_ACTIVE
        return may_have_parts(self.plan) and is_on and not is_over

    @property
    def live(self) -> LiveState | None:
        """What was asked of it since; None: nothing was recorded yet."""
        return self.handlers.live

    def lose(self) -> None:
        """Another worker goes on with the egress: what was recorded here is a part of it, which ends."""
        self.had_ended = True
        self.stop(EndReason.TAKEN_OVER)

    def stop_retrying(self) -> None:
        """Of a recovery: what no storage takes now is left to the next one."""
        self.handlers.stop(EndReason.KILLED)

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Raises EgressError with everything that did not work; what did is applied. What is asked for before
        the recording has begun is applied when it does."""
        if self._ended is not None:
            raise not_running()
        self.check_recorded()
        await self.handlers.update_streams(add, remove, has_begun=self.active_s is not None)

    async def obey(self, order: str) -> None:
        """`order` is text of request.orders; empty: whether any could be carried out now. Returns once it
        is. Raises EgressError."""
        if self._ended is not None:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        self.check_recorded()
        if order:
            await self.handlers.obey(order)

    def check_recorded(self) -> None:
        """Raises EgressError, UNAVAILABLE, while another handler is on its way to go on with it."""
        if self._stage is _Stage.TAKEN_OVER:
            raise between_two()

    async def run(self, spawns: Spawns, begun: BegunAt = BegunAt.NOWHERE) -> None:
        """Returns when the egress has ended and its last state was reported."""
        try:
            await self._record(spawns, begun)
        except Exception as error:
            # Nothing may leave a record behind that claims to be running.
            _log.exception("egress failed in the worker", egress_id=self.plan.egress_id)
            self._end_failed(f"the worker failed: {error!r}")
        finally:
            await self.record.close()

    async def finish_left(self, recover: Spawn, text: str) -> None:
        """As run(), for an egress whose handler died in an earlier life of this worker."""
        try:
            await self._finish_left(recover, text)
        except Exception as error:
            _log.exception("egress failed in the worker", egress_id=self.plan.egress_id)
            self._end_failed(f"{text}; the worker failed to recover it: {error!r}")
        finally:
            await self.record.close()

    async def _record(self, spawns: Spawns, begun: BegunAt) -> None:
        """By one handler, and by others as long as each dies."""
        died, resumes = "with its worker", begun is not BegunAt.NOWHERE
        while True:
            if resumes and not self.is_left:
                self._stage = _Stage.TAKEN_OVER
                is_on = await spawns.is_room_on(self.plan)
                if self.is_left:
                    return
                if not is_on:
                    await self._finish_after(spawns, died, "its room is over", begun)
                    return
            if begun is BegunAt.ELSEWHERE_LEFT:
                await self._follow(spawns.recover, ipc.Recover(self.plan))
                begun = BegunAt.ELSEWHERE
                if self.is_left:
                    return
            is_here = resumes and begun is not BegunAt.ELSEWHERE
            seal = self._supplies.seal(self.plan)
            order = self._supplies.room_keys.order(self.plan, seal, resumes=is_here)
            outcome = await self._follow(spawns.start, order)
            if self.is_left:
                return
            if self.active_s is not None:
                begun = BegunAt.HERE
            if isinstance(outcome, Ended):
                if self._stage is _Stage.TAKEN_OVER:
                    await self._finish_after(spawns, died, outcome.error, begun)
                return
            died = outcome.how
            if not self._may_resume(resumes):
                await self._recover(spawns.recover, died)
                return
            resumes = True
            if begun is BegunAt.ELSEWHERE:
                begun = BegunAt.ELSEWHERE_LEFT
            _log.error("another process continues a recording", egress_id=self.plan.egress_id, died=died)

    def _may_resume(self, has_begun: bool) -> bool:
        deaths_s = [each.at_s for each in self.handlers.deaths]
        has_begun = has_begun or self.active_s is not None
        is_wanted = self.plan.resumes and has_begun and self._stop_reason is None
        return is_wanted and RestartPolicy().allows(deaths_s, time.monotonic())

    async def _finish_after(self, spawns: Spawns, died: str, why: str, begun: BegunAt) -> None:
        """Nobody can go on with it; no `why`: it was stopped before somebody had."""
        reason = f" and nobody could continue it: {why}" if why else ""
        if begun is not BegunAt.HERE:
            # Nothing to save, but it may have left a folder in the spool.
            await self._follow(spawns.recover, ipc.Recover(self.plan))
            self._end_unbegun(f"the worker that recorded this was lost{reason}")
            return
        await self._finish_left(spawns.recover, f"the recording process ended ({died}){reason}")

    def _end_unbegun(self, text: str) -> None:
        """Of a part of which nothing was recorded."""
        if self._stop_reason in (None, EndReason.FAILURE):
            self._end_failed(text)
            return
        self._stage = _Stage.RECORDED
        self.record.notice(text)
        self._take(Ended(time.time_ns(), self._stop_reason))

    async def _recover(self, spawn: Spawn, died: str) -> None:
        text = f"the recording process ended ({died})"
        if self.active_s is None and self._stage is _Stage.RECORDED:
            # Nothing to save, but it may have left a folder in the spool.
            await self._follow(spawn, ipc.Recover(self.plan))
            self._end_failed(f"{text} before it could record")
        else:
            await self._finish_left(spawn, text)

    async def _finish_left(self, spawn: Spawn, text: str) -> None:
        _log.error("recovering what was recorded", egress_id=self.plan.egress_id, reason=text)
        self._stage = _Stage.FINISHING
        match await self._follow(spawn, ipc.Recover(self.plan)):
            case Death() if self._may_try_again:
                await self._finish_left(spawn, text)
                return
            case Ended(report=EndReport.RECOVERED) as ended:
                self._take(ended)
                return
            case Death(how):
                kept = f"its files wait in the spool, as their recovery ended too ({how})"
            case Ended(error=error) if error:
                _log.error("a recovery failed", egress_id=self.plan.egress_id, error=error)
                kept = f"what was recorded until then could not be stored: {error}"
            case Ended() if self.plan.resumes and self._stop_reason not in (None, EndReason.FAILURE):
                # It was to end, and all that there was until then is stored.
                self._stage = _Stage.RECORDED
                self.record.notice(text)
                self._take(Ended(time.time_ns(), self._stop_reason))
                return
            case Ended():
                kept = "what was recorded until then is kept"
        self._end_failed(f"{text}; {kept}")

    @property
    def _may_try_again(self) -> bool:
        """What dies of composing a recording stores its tracks in the end, and the first death may have been
        of another cause."""
        return self.plan.render is Render.DEFERRED and len(self.handlers.deaths) <= MOST_TRIES

    async def _follow(self, spawn: Spawn, order: ipc.Run | ipc.Recover) -> Ended | Death:
        handler = await spawn()
        if self.is_left:
            handler.kill()
        # A recovery is at the end anyway: it is only told when there is no time for it.
        is_told = isinstance(order, ipc.Run) or self._stop_reason is EndReason.KILLED
        return await self.handlers.follow(handler, order, self._stop_reason if is_told else None)

    def happened(self, event: StoredBeside) -> None:
        """Beside the recording."""
        self._take(event)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Progress() | Uploaded() | Thumbnail() | Rejoined() | MarkerAdded() | StoredBeside():
                if isinstance(event, Progress):
                    self.progress = event
                self._tell_aside(event)
                return
            case AwaitingStart():
                self._phase = Phase.START_SIGNAL
            case Active() | Restarted():
                self._phase = None
                if isinstance(event, Active) and self.plan.part is not None:
                    self._take(self.plan.part.begun(event.at_ns))
                if isinstance(event, Restarted):
                    self._tell_aside(event)
                if not self.is_left:
                    self._stage = _Stage.RECORDED
                self.active_s = self.active_s or time.monotonic()
            case Ending() if self._stop_reason is None:
                self._stop_reason = event.reason
            case Composing():
                self.composing = event
            case Ended() if self._stage is _Stage.TAKEN_OVER:
                return  # of a handler that did not come to record
            case Ended():
                self._ended = event
            case _:
                pass
        self.record.apply(event)

    def _tell_aside(self, event: Aside | Restarted) -> None:
        if self._on_aside is not None:
            with beside("watching a recording"):
                self._on_aside(self, event)

    @property
    def left_out(self) -> LeftOut:
        """Known at the end."""
        return self._ended.left_out if self._ended is not None else LeftOut()

    def _end_failed(self, text: str) -> None:
        error = f"{Phase.RECORDING}: {text}"
        self._stage = _Stage.RECORDED
        self._take(
            Ended(time.time_ns(), EndReason.FAILURE, error, Code.INTERNAL.value, report=EndReport.MISSING)
        )
