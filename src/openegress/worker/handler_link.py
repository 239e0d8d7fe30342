"""Connects an egress to its handler processes, of which one runs at a time: a dead one is followed by one
that continues or recovers its recording."""

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec
import structlog

from openegress.core import ipc
from openegress.core.clip_plan import ClipMade, ClipStored
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import AnyEvent, Ended, EndReason, StreamUpdate
from openegress.core.live_state import LiveState
from openegress.core.live_streams import NO_STREAMS, AddedTarget
from openegress.core.plan import Plan, StreamTarget
from openegress.core.tasks import non_fatal
from openegress.worker.compose_turns import ComposePlace, ComposeTurns
from openegress.worker.handler_messages import HandlerMessageCheck
from openegress.worker.handler_requests import HandlerRequests
from openegress.worker.key_answers import AskKeys, KeyAnswers
from openegress.worker.listening import listen
from openegress.worker.local_puts import LocalPuts
from openegress.worker.process import HandlerProcess
from openegress.worker.put_permits import RecordingPermits

_log = structlog.get_logger(__name__)

OnLog = Callable[[str, ipc.Log], None]
OnEvent = Callable[[AnyEvent], None]


class _Stage(Enum):
    WAITING = auto()
    """It waits for its first handler."""
    RECORDING = auto()
    RECOVERING = auto()
    """A handler stores what a dead one left in the spool."""
    ALONE = auto()
    """There is no handler: between two, or after the last."""


@dataclass(frozen=True, slots=True)
class Death:
    """The death of a handler that did not finish."""

    how: str
    of_memory: bool = False
    """Whether the kernel killed it for memory."""
    at_s: float = field(default_factory=time.monotonic)


class HandlerLink:
    """Passes orders to a handler, answers its questions, and passes on its events."""

    def __init__(
        self,
        plan: Plan,
        on_event: OnEvent,
        on_log: OnLog,
        permits: RecordingPermits,
        turns: ComposeTurns,
        ask_keys: AskKeys | None = None,
    ) -> None:
        """`on_event` gets every event of the recording, `Ended` last; of a recovery, all but its `Ended`.
        `permits` has the names of the recording. `ask_keys` is None without a key service."""
        self.deaths: list[Death] = []
        self.last_words: tuple[str, ...] = ()
        """The last lines that the last handler wrote to standard error."""
        self.live: LiveState | None = None
        """None: no handler has recorded yet."""
        self.streams = NO_STREAMS
        self._plan = plan
        self._on_event = on_event
        self._on_log = on_log
        self._turns = turns
        self._keys = KeyAnswers(plan, ask_keys)
        self._permits = permits
        self._puts = LocalPuts(plan.egress_id, permits)
        self._handler: HandlerProcess | None = None
        self._stage = _Stage.WAITING
        self._has_ended = False
        """Whether a handler finished."""
        self._requests = HandlerRequests()

    @property
    def pid(self) -> int | None:
        """The handler's process id; None without a handler."""
        return self._handler.pid if self._handler is not None else None

    def stop(self, reason: EndReason) -> None:
        """Asks the handler, if any, to end."""
        if self._handler is not None:
            self._handler.send(ipc.Stop(reason.value))

    def tell(self, message: ClipStored) -> None:
        """Sends a message to the handler that records, if any."""
        if self._handler is not None and self._stage is _Stage.RECORDING:
            self._handler.send(message)

    def kill(self) -> None:
        """Kills the handler, if any. What it recorded stays in the spool."""
        if self._handler is not None:
            self._handler.kill()

    async def update_streams(
        self, add: tuple[StreamTarget, ...], remove: tuple[str, ...], *, has_begun: bool
    ) -> None:
        """Adds and removes streams. `has_begun` says that the recording has begun; before that, the handler
        answers late. Raises EgressError with everything that did not work."""
        if self._stage in (_Stage.RECOVERING, _Stage.ALONE):
            raise self._unanswered()
        send = self._handler.send if self._handler is not None else None
        await self._requests.update_streams(add, remove, send=send, has_begun=has_begun)

    async def apply_order(self, order: str) -> None:
        """Applies an order, a text of request.orders, and returns once it is carried out. Raises
        EgressError."""
        if self._stage is _Stage.ALONE:
            raise self._unanswered()
        if self._handler is None or self._stage is not _Stage.RECORDING:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        await self._requests.apply_order(order, self._handler.send)

    async def follow(
        self, handler: HandlerProcess, order: ipc.Run | ipc.Recover, stop: EndReason | None
    ) -> Ended | Death:
        """Follows one handler to its exit. Returns its Ended event, or how it died without one. `stop` is why
        it must end at once."""
        self._handler, place = handler, self._turns.place()
        try:
            ended = await self._listen(handler, order, stop, place)
        except (msgspec.MsgspecError, ValueError) as error:
            _log.error(
                "cannot decode the messages of the recording process: killing it",
                egress_id=self._plan.egress_id,
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
            self._requests.refuse_all(self._unanswered())
            await self._keys.cancel()
            await self._puts.end()
            await handler.reap()
            place.leave()
            self.last_words = handler.last_words
        return ended or self._died(Death(handler.ended, handler.ran_out_of_memory))

    def _unanswered(self) -> EgressError:
        return between_two() if self._plan.resumes and not self._has_ended else not_running()

    def _died(self, death: Death) -> Death:
        self.deaths.append(death)
        return death

    async def _listen(
        self,
        handler: HandlerProcess,
        order: ipc.Run | ipc.Recover,
        stop: EndReason | None,
        place: ComposePlace,
    ) -> Ended | None:
        """Reads until the handler sends nothing more. Returns None if it did not finish."""
        handler.send(order)
        match order:
            case ipc.Run():
                self._stage = _Stage.RECORDING
                if not order.resumes:
                    self._permits.begin()
                for update in self._requests.take_early():
                    handler.send(update)
            case ipc.Recover():
                self._stage = _Stage.RECOVERING
        if stop is not None:
            handler.send(ipc.Stop(stop.value))
        ended: Ended | None = None
        words = HandlerMessageCheck(len(self._plan.outputs))
        async with aclosing(listen(handler, self._plan.egress_id)) as messages:
            async for message in messages:
                words.check(message)
                match message:
                    case ipc.Ready() | ClipMade() | ipc.ClaimClip():
                        pass
                    case ipc.Log():
                        with non_fatal("writing a recording's log"):
                            self._on_log(self._plan.egress_id, message)
                    case ipc.Reply():
                        self._requests.answer(message)
                    case ipc.ClaimNames():
                        handler.send(await self._permits.claim(message))
                    case ipc.AskTurn():
                        place.ask(lambda behind: handler.send(ipc.Turn(behind)))
                    case ipc.PutFile():
                        self._puts.begin(message, handler.folder, handler.send)
                    case ipc.AskKeys():
                        self._keys.begin(message, handler.send)
                    case LiveState():
                        self.live = message
                    case AddedTarget():
                        self.streams = self.streams.with_target(message)
                    case Ended():
                        ended = message
                        self._has_ended = True
                        if self._stage is _Stage.RECORDING:
                            self._on_event(message)
                    case _:
                        self._on_event(message)
                        if isinstance(message, StreamUpdate) and self._stage is _Stage.RECORDING:
                            self.streams = self.streams.with_update(message)
        return ended


def not_running() -> EgressError:
    return EgressError(Code.UNAVAILABLE, "the recording is not running", fault=Fault.SERVICE)


def between_two() -> EgressError:
    """The error for orders between two handlers, and for those that a dead handler has not answered: nobody
    knows whether these were carried out."""
    why = "the recording process has died, and another one is about to continue: try again in a moment"
    return EgressError(Code.UNAVAILABLE, why, fault=Fault.SERVICE)
