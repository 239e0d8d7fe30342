"""One egress on this worker: its record, and what happens when its handler process dies."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import structlog
from livekit.protocol.egress import EgressStatus

from openegress.core import ipc
from openegress.core.deferred import MAX_TRIES
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.events import (
    Active,
    AnyEvent,
    AwaitingStart,
    Composing,
    Ended,
    Ending,
    EndReason,
    EndReport,
    ExtraFileStored,
    MarkerAdded,
    ObserverEvent,
    Progress,
    Rejoined,
    Restarted,
    Thumbnail,
    Uploaded,
)
from openegress.core.left_out import LeftOut
from openegress.core.live_state import LiveState
from openegress.core.live_streams import LiveStreams
from openegress.core.plan import Plan, StreamTarget, encode
from openegress.core.render import Render
from openegress.core.restart_policy import RestartPolicy
from openegress.core.tasks import non_fatal
from openegress.worker.compose_turns import ComposeTurns
from openegress.worker.handler_link import Death, HandlerLink, OnLog, between_two, not_running
from openegress.worker.job_keys import NO_KEYS, JobKeys
from openegress.worker.process import HandlerProcess
from openegress.worker.put_permits import OnNames, RecordingPermits, SealOf
from openegress.worker.records import Record

_log = structlog.get_logger(__name__)

OnObserverEvent = Callable[["Job", ObserverEvent | Restarted], None]
Spawn = Callable[[], Awaitable[HandlerProcess]]


@dataclass(frozen=True, slots=True)
class HandlerSpawner:
    """Starts the handlers of a recording, and says whether another one may continue it."""

    start: Spawn
    """Starts a handler for the plan."""
    recover: Spawn
    """Starts a handler that finishes what a dead one left."""
    is_room_on: Callable[[Plan], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class HandlerServices:
    """The services of the worker that its handlers use."""

    claim_names: OnNames | None = None
    """Called once the room has filled the placeholders; without it, any name may be written."""
    room_keys: JobKeys = NO_KEYS
    """The keys of encrypted rooms."""
    turns: ComposeTurns = field(default_factory=lambda: ComposeTurns(1))
    seal: SealOf = lambda data: ""
    """The seal by which a later process of this worker recognises the plan, and its names."""


class EarlierStart(Enum):
    """Where a recording began, if an earlier process or worker began it."""

    NOWHERE = auto()
    HERE = auto()
    """An earlier process of this worker began it, and the worker's spool has the recording."""
    ELSEWHERE = auto()
    """A worker that is lost began it, and this worker records another part."""
    ELSEWHERE_LEFT = auto()
    """Like ELSEWHERE, but a handler of this worker died before it recorded anything of that part. What it
    left in the spool must be removed first."""


class _Stage(Enum):
    RECORDED = auto()
    TAKEN_OVER = auto()
    """A handler is about to continue what a dead one recorded."""
    FINISHING = auto()
    """A handler is finishing what a dead one recorded."""
    LEFT = auto()
    """The job is left to the next worker."""


class Job:
    """Owns the record from STARTING to its terminal state, and the handlers that work for it."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        record: Record,
        on_log: OnLog,
        on_observer_event: OnObserverEvent | None = None,
        services: HandlerServices = HandlerServices(),
        *,
        had_ended: bool = False,
    ) -> None:
        """`had_ended`: this recovers an egress that has already ended, or continues on another worker."""
        self.plan = plan
        self.kind = kind
        self.record = record
        self.had_ended = had_ended
        self.started_s = time.monotonic()
        self.active_s: float | None = None
        """Monotonic time at which it became active."""
        self.progress: Progress | None = None
        self.composing: Composing | None = None
        """The progress of composing; None before composing."""
        permits = RecordingPermits(plan, services.claim_names, services.seal)
        self.handlers = HandlerLink(plan, self._take, on_log, permits, services.turns, services.room_keys.ask)
        self._services = services
        self._on_observer_event = on_observer_event
        self._stop_reason: EndReason | None = None
        self._ended: Ended | None = None
        self._phase: Phase | None = None
        """START_SIGNAL while it waits for the page's signal."""
        self._stage = _Stage.RECORDED

    @property
    def ended(self) -> Ended | None:
        return self._ended

    def stop(self, reason: EndReason) -> None:
        """Requests the end. Idempotent, except for KILLED, which speeds up an end in progress. Does nothing
        if the job is left to the next start."""
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
        """Ends its handler at once, so that the next process of this worker continues the recording. Returns
        False if none would."""
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
        """Whether another worker should continue it if this one is lost."""
        info = self.record.info
        is_over = self._stage in (_Stage.FINISHING, _Stage.LEFT) or self._stop_reason or self._ended
        is_on = info.status == EgressStatus.EGRESS_ACTIVE
        return self.plan.resumes and is_on and not is_over

    @property
    def live(self) -> LiveState | None:
        """What was requested of the recording since the start; None: nothing was recorded yet."""
        return self.handlers.live

    @property
    def streams(self) -> LiveStreams:
        """What this worker has sent to."""
        return self.handlers.streams

    def lose(self) -> None:
        """Ends the recording here, as another worker continues the egress: what was recorded here becomes a
        part."""
        self.had_ended = True
        self.stop(EndReason.TAKEN_OVER)

    def stop_retrying(self) -> None:
        """Stops the retries of a recovery: what no storage accepts now is left to the next one."""
        self.handlers.stop(EndReason.KILLED)

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Adds and removes streams. Raises EgressError with everything that did not work; the rest is
        applied. Requests that come before the recording has begun are applied when it begins."""
        if self._ended is not None:
            raise not_running()
        self.check_recorded()
        await self.handlers.update_streams(add, remove, has_begun=self.active_s is not None)

    async def apply_order(self, order: str) -> None:
        """Applies an order, a text of request.orders, and returns once it is carried out. An empty order asks
        whether one could be carried out now. Raises EgressError."""
        if self._ended is not None:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        self.check_recorded()
        if order:
            await self.handlers.apply_order(order)

    def check_recorded(self) -> None:
        """Raises EgressError, UNAVAILABLE, while another handler is about to continue the recording."""
        if self._stage is _Stage.TAKEN_OVER:
            raise between_two()

    async def run(self, spawner: HandlerSpawner, begun: EarlierStart = EarlierStart.NOWHERE) -> None:
        """Records. Returns when the egress has ended and its last state was reported."""
        try:
            await self._record(spawner, begun)
        except Exception as error:
            # No record may stay that claims to be running.
            _log.exception("egress failed in the worker", egress_id=self.plan.egress_id)
            self._end_failed(f"the worker failed: {error!r}")
        finally:
            await self.record.close()

    async def finish_left(self, recover: Spawn, text: str) -> None:
        """Like run(), for an egress whose handler died in an earlier process of this worker."""
        try:
            await self._finish_left(recover, text)
        except Exception as error:
            _log.exception("egress failed in the worker", egress_id=self.plan.egress_id)
            self._end_failed(f"{text}; the worker failed to recover it: {error!r}")
        finally:
            await self.record.close()

    async def _record(self, spawner: HandlerSpawner, begun: EarlierStart) -> None:
        """Records with one handler, and with another each time that one dies."""
        died, resumes = "with its worker", begun is not EarlierStart.NOWHERE
        while True:
            if resumes and not self.is_left:
                self._stage = _Stage.TAKEN_OVER
                is_on = await spawner.is_room_on(self.plan)
                if self.is_left:
                    return
                if not is_on:
                    await self._finish_after(spawner, died, "its room has ended", begun)
                    return
            if begun is EarlierStart.ELSEWHERE_LEFT:
                await self._follow(spawner.recover, ipc.Recover(self.plan))
                begun = EarlierStart.ELSEWHERE
                if self.is_left:
                    return
            is_here = resumes and begun is not EarlierStart.ELSEWHERE
            seal = self._services.seal(encode(self.plan))
            order = self._services.room_keys.order(self.plan, seal, resumes=is_here)
            outcome = await self._follow(spawner.start, order)
            if self.is_left:
                return
            if self.active_s is not None:
                begun = EarlierStart.HERE
            if isinstance(outcome, Ended):
                if self._stage is _Stage.TAKEN_OVER:
                    await self._finish_after(spawner, died, outcome.error, begun)
                return
            died = outcome.how
            if not self._may_resume(resumes):
                await self._recover(spawner.recover, died)
                return
            resumes = True
            if begun is EarlierStart.ELSEWHERE:
                begun = EarlierStart.ELSEWHERE_LEFT
            _log.error("another process continues a recording", egress_id=self.plan.egress_id, died=died)

    def _may_resume(self, has_begun: bool) -> bool:
        deaths_s = [each.at_s for each in self.handlers.deaths]
        has_begun = has_begun or self.active_s is not None
        is_wanted = self.plan.resumes and has_begun and self._stop_reason is None
        return is_wanted and RestartPolicy().allows(deaths_s, time.monotonic())

    async def _finish_after(self, spawner: HandlerSpawner, died: str, why: str, begun: EarlierStart) -> None:
        """Ends a recording that nobody can continue. Without `why`, it was stopped before another handler
        continued it."""
        reason = f" and nobody could continue it: {why}" if why else ""
        if begun is not EarlierStart.HERE:
            # There is nothing to save, but it may have left a folder in the spool.
            await self._follow(spawner.recover, ipc.Recover(self.plan))
            self._end_unbegun(f"the worker that recorded this was lost{reason}")
            return
        await self._finish_left(spawner.recover, f"the recording process ended ({died}){reason}")

    def _end_unbegun(self, text: str) -> None:
        """Ends a part of which nothing was recorded."""
        if self._stop_reason in (None, EndReason.FAILURE):
            self._end_failed(text)
            return
        self._stage = _Stage.RECORDED
        self.record.notice(text)
        self._take(Ended(time.time_ns(), self._stop_reason))

    async def _recover(self, spawn: Spawn, died: str) -> None:
        text = f"the recording process ended ({died})"
        if self.active_s is None and self._stage is _Stage.RECORDED:
            # There is nothing to save, but it may have left a folder in the spool.
            await self._follow(spawn, ipc.Recover(self.plan))
            self._end_failed(f"{text} before it could record")
        else:
            await self._finish_left(spawn, text)

    async def _finish_left(self, spawn: Spawn, text: str) -> None:
        _log.error("recovering a recording", egress_id=self.plan.egress_id, reason=text)
        self._stage = _Stage.FINISHING
        match await self._follow(spawn, ipc.Recover(self.plan)):
            case Death() if self._may_try_again:
                await self._finish_left(spawn, text)
                return
            case Ended(report=EndReport.RECOVERED) as ended:
                self._take(ended)
                return
            case Death(how):
                kept = f"its files wait in the spool, because their recovery ended too ({how})"
            case Ended(error=error) if error:
                _log.error("a recovery failed", egress_id=self.plan.egress_id, error=error)
                kept = f"the recording up to then could not be stored: {error}"
            case Ended() if self.plan.resumes and self._stop_reason not in (None, EndReason.FAILURE):
                # It had to end anyway, and everything until then is stored.
                self._stage = _Stage.RECORDED
                self.record.notice(text)
                self._take(Ended(time.time_ns(), self._stop_reason))
                return
            case Ended():
                kept = "the recording up to then is kept"
        self._end_failed(f"{text}; {kept}")

    @property
    def _may_try_again(self) -> bool:
        """Whether composing is tried again after a handler died. The first death may have had another cause;
        after MAX_TRIES deaths, the tracks are stored."""
        return self.plan.render is Render.DEFERRED and len(self.handlers.deaths) <= MAX_TRIES

    async def _follow(self, spawn: Spawn, order: ipc.Run | ipc.Recover) -> Ended | Death:
        handler = await spawn()
        if self.is_left:
            handler.kill()
        # A recovery ends by itself: send it the stop only when there is no time left.
        is_told = isinstance(order, ipc.Run) or self._stop_reason is EndReason.KILLED
        return await self.handlers.follow(handler, order, self._stop_reason if is_told else None)

    def happened(self, event: ExtraFileStored) -> None:
        """Takes an event that does not come from the recording's handler."""
        self._take(event)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Progress() | Uploaded() | Thumbnail() | Rejoined() | MarkerAdded() | ExtraFileStored():
                if isinstance(event, Progress):
                    self.progress = event
                self._notify_observer(event)
                return
            case AwaitingStart():
                self._phase = Phase.START_SIGNAL
            case Active() | Restarted():
                self._phase = None
                if isinstance(event, Active) and self.plan.part is not None:
                    self._take(self.plan.part.begun(event.at_ns))
                if isinstance(event, Restarted):
                    self._notify_observer(event)
                if not self.is_left:
                    self._stage = _Stage.RECORDED
                self.active_s = self.active_s or time.monotonic()
            case Ending() if self._stop_reason is None:
                self._stop_reason = event.reason
            case Composing():
                self.composing = event
            case Ended() if self._stage is _Stage.TAKEN_OVER:
                return  # it comes from a handler that does not record
            case Ended():
                self._ended = event
            case _:
                pass
        self.record.apply(event)

    def _notify_observer(self, event: ObserverEvent | Restarted) -> None:
        if self._on_observer_event is not None:
            with non_fatal("watching a recording"):
                self._on_observer_event(self, event)

    @property
    def left_out(self) -> LeftOut:
        """The media left out, known at the end."""
        return self._ended.left_out if self._ended is not None else LeftOut()

    def _end_failed(self, text: str) -> None:
        error = f"{Phase.RECORDING}: {text}"
        self._stage = _Stage.RECORDED
        self._take(
            Ended(time.time_ns(), EndReason.FAILURE, error, Code.INTERNAL.value, report=EndReport.MISSING)
        )
