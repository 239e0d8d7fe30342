"""One egress on this worker: its handler process, its record, and what happens when the process dies."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

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
from openegress.core.plan import Plan, StreamTarget
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record

_log = structlog.get_logger(__name__)

_SILENCE_S = 30.0
"""A handler says something every second; one that is silent this long hangs and is replaced."""
_LAST_CHANCE_S = 3.0
"""It may have been this process that stood still, and what the handler said meanwhile lies there unread."""
_UPDATE_TIMEOUT_S = 10.0
_EARLY_UPDATE_TIMEOUT_S = 2.0
"""Before the recording has begun; whoever asks over the bus waits for 3 s."""

OnLog = Callable[[str, ipc.Log], None]
OnAside = Callable[["Job", Aside], None]
Spawn = Callable[[], Awaitable[HandlerProcess]]


class Job:
    """Owns the handler from its plan to its exit, and the record from STARTING to its terminal state."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        record: Record,
        on_log: OnLog,
        on_aside: OnAside | None = None,
        *,
        had_ended: bool = False,
    ) -> None:
        """`had_ended`: this is a recovery of an egress that has ended before."""
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
        self._handler: HandlerProcess | None = None
        self._order: ipc.Run | ipc.Recover | None = None
        """The last that a handler was given."""
        self._stop_reason: EndReason | None = None
        self._ended: Ended | None = None
        self._phase: Phase | None = None
        self._not_recovered = ""
        """Why files of an egress that died are not where they belong."""
        self._calls: dict[int, asyncio.Future[ipc.Reply]] = {}
        self._early: list[ipc.UpdateStreams] = []
        """Asked for before there was a handler."""
        self._call_ids = itertools.count(1)

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

    def hurry(self) -> None:
        """Of a recovery: what no storage takes now is left to the next one."""
        if self._handler is not None:
            self._handler.send(ipc.Stop(EndReason.KILLED.value))

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Raises EgressError with everything that did not work; what did is applied. What is asked for before
        the recording has begun is applied when it does."""
        between = self._handler is None and self._order is not None
        if self._ended is not None or between or isinstance(self._order, ipc.Recover):
            raise EgressError(Code.UNAVAILABLE, "the recording is not running", fault=Fault.SERVICE)
        call = next(self._call_ids)
        reply: asyncio.Future[ipc.Reply] = asyncio.get_running_loop().create_future()
        self._calls[call] = reply
        update = ipc.UpdateStreams(call, add, remove)
        if self._handler is None:
            self._early.append(update)
        else:
            self._handler.send(update)
        began = self.active_s is not None
        try:
            async with asyncio.timeout(_UPDATE_TIMEOUT_S if began else _EARLY_UPDATE_TIMEOUT_S):
                answer = await reply
        except TimeoutError:
            why = "did not answer in time" if began else "has not begun yet: its streams change when it does"
            raise EgressError(Code.DEADLINE_EXCEEDED, f"the recording {why}", fault=Fault.SERVICE) from None
        finally:
            del self._calls[call]
        if answer.code:
            raise EgressError(Code(answer.code), answer.error)

    async def run(self, start: Spawn, recover: Spawn) -> None:
        """Returns when the egress has ended and its last state was reported.

        `start` gives the handler for the plan, `recover` one that finishes what a dead handler left.
        """
        try:
            died = await self._follow(await start(), ipc.Run(self.plan))
            if died is not None:
                await self._recover(recover, died)
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
        again = await self._follow(await spawn(), ipc.Recover(self.plan))
        kept = "what was recorded until then is kept"
        if self._not_recovered:
            _log.error("a recovery failed", egress_id=self.plan.egress_id, error=self._not_recovered)
            kept = f"what was recorded until then could not be stored: {self._not_recovered}"
        if again is not None:
            kept = f"its files wait in the spool, as their recovery ended too ({again})"
        self._end_failed(f"{text}; {kept}")

    async def _follow(self, handler: HandlerProcess, order: ipc.Run | ipc.Recover) -> str | None:
        """Sees one handler process through; returns how it died when it did not come to its end."""
        self._handler = handler
        try:
            finished = await self._listen(handler, order)
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error(
                "the recording process cannot be understood: killing it",
                egress_id=self.plan.egress_id,
                error=str(error),
            )
            handler.kill()
            return f"its messages could not be read: {error}"
        except BaseException:
            handler.kill()
            raise
        finally:
            self._handler = None
            await handler.reap()
        return None if finished else handler.ended

    async def _listen(self, handler: HandlerProcess, order: ipc.Run | ipc.Recover) -> bool:
        """Until the handler has nothing more to say; whether it came to its end."""
        handler.send(order)
        self._order = order
        if isinstance(order, ipc.Run):
            for update in self._early:
                handler.send(update)
        if self._stop_reason is not None:
            handler.send(ipc.Stop(self._stop_reason.value))
        finished = False
        messages, patience_s = handler.messages(), _SILENCE_S
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    message = await anext(messages, None)
                patience_s = _SILENCE_S
            except TimeoutError:
                messages = handler.messages()
                if patience_s == _SILENCE_S:
                    patience_s = _LAST_CHANCE_S
                    continue
                if not handler.alive:
                    return finished  # and yet somebody holds its channel
                _log.error("the recording process is silent: killing it", egress_id=self.plan.egress_id)
                handler.kill()
                continue
            match message:
                case None:
                    return finished
                case ipc.Ready():
                    pass
                case ipc.Log():
                    self._on_log(self.plan.egress_id, message)
                case ipc.Reply():
                    if (call := self._calls.get(message.call)) is not None and not call.done():
                        call.set_result(message)
                case Ended():
                    finished = True
                    if isinstance(order, ipc.Run):
                        self._end(message)
                    else:
                        self._not_recovered = message.error
                case _:
                    self._take(message)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case Progress() | Uploaded() | Thumbnail():
                if isinstance(event, Progress):
                    self.progress = event
                if self._on_aside is not None:
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

    def _end_failed(self, text: str) -> None:
        error = f"{Phase.RECORDING}: {text}"
        self._end(Ended(time.time_ns(), EndReason.FAILURE, error, Code.INTERNAL.value, died=True))
