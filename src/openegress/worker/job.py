"""One egress on this worker: its handler process, its record, and what happens when the process dies."""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto

import msgspec
import structlog

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import (
    Active,
    AnyEvent,
    Aside,
    AwaitingStart,
    Ended,
    Ending,
    EndReason,
    Progress,
    Thumbnail,
    Uploaded,
)
from openegress.core.left_out import LeftOut
from openegress.core.plan import Plan, StreamTarget
from openegress.core.room_keys import RoomKey
from openegress.core.tasks import beside
from openegress.worker.handler_requests import HandlerRequests
from openegress.worker.listening import listen
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record

_log = structlog.get_logger(__name__)

OnLog = Callable[[str, ipc.Log], None]
OnAside = Callable[["Job", Aside], None]
OnNames = Callable[[Plan, ipc.ClaimNames], Awaitable[str]]
"""Claims the paths that the plan's names have become; returns what is to go behind its names so that no
other recording has them. Raises EgressError."""
Spawn = Callable[[], Awaitable[HandlerProcess]]


class _Stage(Enum):
    WAITING = auto()
    """For its first handler."""
    RECORDING = auto()
    RECOVERING = auto()
    """A handler stores what a dead one left."""
    ALONE = auto()
    """Between two handlers, or after the last."""


@dataclass(frozen=True, slots=True)
class Death:
    """Of a handler that did not come to its end."""

    how: str
    of_memory: bool = False
    """The kernel killed it to have memory."""


class Job:
    """Owns the handler from its plan to its exit, and the record from STARTING to its terminal state."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        record: Record,
        on_log: OnLog,
        on_aside: OnAside | None = None,
        claim_names: OnNames | None = None,
        *,
        had_ended: bool = False,
    ) -> None:
        """`claim_names` is asked once the room has told what placeholders stand for; without it, any name may
        be written. `had_ended`: this is a recovery of an egress that has ended before."""
        self.plan = plan
        self.kind = kind
        self.record = record
        self.had_ended = had_ended
        self.started_s = time.monotonic()
        self.active_s: float | None = None
        """When it became active, on the monotonic clock."""
        self.progress: Progress | None = None
        self._on_log = on_log
        self._on_aside = on_aside
        self._claim_names = claim_names
        self.deaths: list[Death] = []
        self.last_words: tuple[str, ...] = ()
        """On the standard error of the last handler."""
        self._handler: HandlerProcess | None = None
        self._stage = _Stage.WAITING
        self._stop_reason: EndReason | None = None
        self._ended: Ended | None = None
        self._phase: Phase | None = None
        """START_SIGNAL while the page's signal is awaited."""
        self._requests = HandlerRequests()

    @property
    def ended(self) -> Ended | None:
        return self._ended

    @property
    def pid(self) -> int | None:
        return self._handler.pid if self._handler is not None else None

    def stop(self, reason: EndReason) -> None:
        """Asks for the end. Idempotent, but for KILLED: that hurries an end that is under way."""
        if self._stop_reason is not None or self._ended is not None:
            if reason is EndReason.KILLED and self._handler is not None:
                self._handler.send(ipc.Stop(reason.value))
            return
        self._stop_reason = reason
        self.record.apply(Ending(reason, self._phase))
        if self._handler is not None:
            self._handler.send(ipc.Stop(reason.value))

    def stop_retrying(self) -> None:
        """Of a recovery: what no storage takes now is left to the next one."""
        if self._handler is not None:
            self._handler.send(ipc.Stop(EndReason.KILLED.value))

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Raises EgressError with everything that did not work; what did is applied. What is asked for before
        the recording has begun is applied when it does."""
        if self._ended is not None or self._stage in (_Stage.RECOVERING, _Stage.ALONE):
            raise EgressError(Code.UNAVAILABLE, "the recording is not running", fault=Fault.SERVICE)
        send = self._handler.send if self._handler is not None else None
        await self._requests.update_streams(add, remove, send=send, has_begun=self.active_s is not None)

    async def obey(self, order: str) -> None:
        """`order` is text of request.orders. Returns once it is carried out. Raises EgressError."""
        if self._handler is None or self._ended is not None or self._stage is not _Stage.RECORDING:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        await self._requests.obey(order, self._handler.send)

    async def run(self, start: Spawn, recover: Spawn, room_keys: tuple[RoomKey, ...] = ()) -> None:
        """Returns when the egress has ended and its last state was reported.

        `start` gives the handler for the plan, `recover` one that finishes what a dead handler left.
        """
        try:
            match await self._follow(await start(), ipc.Run(self.plan, room_keys)):
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
            await self._follow(await spawn(), ipc.Recover(self.plan))
            self._end_failed(f"{text} before it could record")
        else:
            await self._finish_left(spawn, text)

    async def _finish_left(self, spawn: Spawn, text: str) -> None:
        _log.error("recovering what was recorded", egress_id=self.plan.egress_id, reason=text)
        match await self._follow(await spawn(), ipc.Recover(self.plan)):
            case Death(how):
                kept = f"its files wait in the spool, as their recovery ended too ({how})"
            case Ended(error=error) if error:
                _log.error("a recovery failed", egress_id=self.plan.egress_id, error=error)
                kept = f"what was recorded until then could not be stored: {error}"
            case Ended():
                kept = "what was recorded until then is kept"
        self._end_failed(f"{text}; {kept}")

    async def _follow(self, handler: HandlerProcess, order: ipc.Run | ipc.Recover) -> Ended | Death:
        """Sees one handler process through; returns its last word, or how it died without one."""
        self._handler = handler
        try:
            ended = await self._listen(handler, order)
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error(
                "the recording process cannot be understood: killing it",
                egress_id=self.plan.egress_id,
                error=str(error),
            )
            handler.kill()
            return self._died(Death(f"its messages could not be read: {error}"))
        except BaseException:
            handler.kill()
            raise
        finally:
            self._handler = None
            self._stage = _Stage.ALONE
            await handler.reap()
            self.last_words = handler.last_words
        return ended or self._died(Death(handler.ended, handler.ran_out_of_memory))

    def _died(self, death: Death) -> Death:
        self.deaths.append(death)
        return death

    async def _listen(self, handler: HandlerProcess, order: ipc.Run | ipc.Recover) -> Ended | None:
        """Until the handler has nothing more to say; None: it did not come to its end."""
        handler.send(order)
        match order:
            case ipc.Run():
                self._stage = _Stage.RECORDING
                for update in self._requests.early:
                    handler.send(update)
            case ipc.Recover():
                self._stage = _Stage.RECOVERING
        if self._stop_reason is not None:
            handler.send(ipc.Stop(self._stop_reason.value))
        ended: Ended | None = None
        async with aclosing(listen(handler, self.plan.egress_id)) as messages:
            async for message in messages:
                match message:
                    case ipc.Ready():
                        pass
                    case ipc.Log():
                        with beside("writing a recording's log"):
                            self._on_log(self.plan.egress_id, message)
                    case ipc.Reply():
                        self._requests.answer(message)
                    case ipc.ClaimNames():
                        handler.send(await self._claimed(message))
                    case Ended():
                        ended = message
                        if self._stage is _Stage.RECORDING:
                            self._end(message)
                    case _:
                        self._take(message)
        return ended

    async def _claimed(self, told: ipc.ClaimNames) -> ipc.NamesClaimed:
        if self._claim_names is None:
            return ipc.NamesClaimed()
        try:
            return ipc.NamesClaimed(await self._claim_names(self.plan, told))
        except EgressError as error:
            return ipc.NamesClaimed(code=error.code.value, error=error.message)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Progress() | Uploaded() | Thumbnail():
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
            case _:
                pass
        self.record.apply(event)

    def _end(self, ended: Ended) -> None:
        self._ended = ended
        self.record.apply(ended)

    @property
    def left_out(self) -> LeftOut:
        """Known at the end."""
        return self._ended.left_out if self._ended is not None else LeftOut()

    def _end_failed(self, text: str) -> None:
        error = f"{Phase.RECORDING}: {text}"
        self._end(Ended(time.time_ns(), EndReason.FAILURE, error, Code.INTERNAL.value, died=True))
