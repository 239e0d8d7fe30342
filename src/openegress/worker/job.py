"""One egress on this worker: its record, and what happens when its handler process dies."""

import time
from collections.abc import Awaitable, Callable

import structlog

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
    MarkerAdded,
    Progress,
    Rejoined,
    StoredBeside,
    Thumbnail,
    Uploaded,
)
from openegress.core.left_out import LeftOut
from openegress.core.plan import Plan, StreamTarget
from openegress.core.render import Render
from openegress.core.tasks import beside
from openegress.worker.compose_turns import ComposeTurns
from openegress.worker.handler_link import Death, HandlerLink, OnLog, OnNames, not_running
from openegress.worker.job_keys import NO_KEYS, JobKeys
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record

_log = structlog.get_logger(__name__)

OnAside = Callable[["Job", Aside], None]
Spawn = Callable[[], Awaitable[HandlerProcess]]


class Job:
    """Owns the record from STARTING to its terminal state, and the handlers that work for it."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        record: Record,
        on_log: OnLog,
        on_aside: OnAside | None = None,
        claim_names: OnNames | None = None,
        room_keys: JobKeys = NO_KEYS,
        turns: ComposeTurns | None = None,
        *,
        had_ended: bool = False,
    ) -> None:
        """`claim_names` is asked once the room has told what placeholders stand for; without it, any name may
        be written. `room_keys`: should its room be encrypted. `had_ended`: this is a recovery of an egress
        that has ended before."""
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
            plan, self._take, on_log, claim_names, turns or ComposeTurns(1), room_keys.ask
        )
        self._room_keys = room_keys
        self._on_aside = on_aside
        self._stop_reason: EndReason | None = None
        self._ended: Ended | None = None
        self._phase: Phase | None = None
        """START_SIGNAL while the page's signal is awaited."""

    @property
    def ended(self) -> Ended | None:
        return self._ended

    def stop(self, reason: EndReason) -> None:
        """Asks for the end. Idempotent, but for KILLED: that hurries an end that is under way."""
        if self._stop_reason is not None or self._ended is not None:
            if reason is EndReason.KILLED:
                self.handlers.stop(reason)
            return
        self._stop_reason = reason
        self.record.apply(Ending(reason, self._phase))
        self.handlers.stop(reason)

    def stop_retrying(self) -> None:
        """Of a recovery: what no storage takes now is left to the next one."""
        self.handlers.stop(EndReason.KILLED)

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Raises EgressError with everything that did not work; what did is applied. What is asked for before
        the recording has begun is applied when it does."""
        if self._ended is not None:
            raise not_running()
        await self.handlers.update_streams(add, remove, has_begun=self.active_s is not None)

    async def obey(self, order: str) -> None:
        """`order` is text of request.orders. Returns once it is carried out. Raises EgressError."""
        if self._ended is not None:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        await self.handlers.obey(order)

    async def run(self, start: Spawn, recover: Spawn) -> None:
        """Returns when the egress has ended and its last state was reported.

        `start` gives the handler for the plan, `recover` one that finishes what a dead handler left.
        """
        try:
            match await self._follow(start, self._room_keys.order(self.plan)):
                case Death(how):
                    await self._recover(recover, how)
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

    async def _recover(self, spawn: Spawn, died: str) -> None:
        text = f"the recording process ended ({died})"
        if self.active_s is None:
            # Nothing to save, but it may have left a folder in the spool.
            await self._follow(spawn, ipc.Recover(self.plan))
            self._end_failed(f"{text} before it could record")
        else:
            await self._finish_left(spawn, text)

    async def _finish_left(self, spawn: Spawn, text: str) -> None:
        _log.error("recovering what was recorded", egress_id=self.plan.egress_id, reason=text)
        match await self._follow(spawn, ipc.Recover(self.plan)):
            case Death() if self._may_try_again:
                await self._finish_left(spawn, text)
                return
            case Ended(whole=True) as ended:
                self._take(ended)
                return
            case Death(how):
                kept = f"its files wait in the spool, as their recovery ended too ({how})"
            case Ended(error=error) if error:
                _log.error("a recovery failed", egress_id=self.plan.egress_id, error=error)
                kept = f"what was recorded until then could not be stored: {error}"
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
        return await self.handlers.follow(handler, order, self._stop_reason)

    def happened(self, event: StoredBeside) -> None:
        """Beside the recording."""
        self._take(event)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Progress() | Uploaded() | Thumbnail() | Rejoined() | MarkerAdded() | StoredBeside():
                if isinstance(event, Progress):
                    self.progress = event
                if self._on_aside is not None:
                    with beside("watching a recording"):
                        self._on_aside(self, event)
                return
            case AwaitingStart():
                self._phase = Phase.START_SIGNAL
            case Active():
                self._phase = None
                self.active_s = time.monotonic()
            case Ending() if self._stop_reason is None:
                self._stop_reason = event.reason
            case Composing():
                self.composing = event
            case Ended():
                self._ended = event
            case _:
                pass
        self.record.apply(event)

    @property
    def left_out(self) -> LeftOut:
        """Known at the end."""
        return self._ended.left_out if self._ended is not None else LeftOut()

    def _end_failed(self, text: str) -> None:
        error = f"{Phase.RECORDING}: {text}"
        self._take(Ended(time.time_ns(), EndReason.FAILURE, error, Code.INTERNAL.value, died=True))
