"""One recording from its plan to its last event.

Whatever ends it (a stop, the source, a limit, an error) is an End; the first one counts. The worker learns
everything from events, the last of which is Ended.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from openegress.core.clip_plan import ClipStored
from openegress.core.deferred import recording_of
from openegress.core.errors import Code, EgressError, Phase, internal
from openegress.core.events import (
    Active,
    AnyEvent,
    AwaitingStart,
    Ended,
    Ending,
    EndReason,
    Rejoined,
    Restarted,
)
from openegress.core.ipc import HandlerSettings
from openegress.core.left_out import LeftOut
from openegress.core.live_state import LiveState
from openegress.core.live_streams import AddedTarget
from openegress.core.plan import Plan, StreamTarget
from openegress.core.restart import missing_ns
from openegress.core.room_keys import NO_KEYS, KeySupply
from openegress.core.tasks import cancelled
from openegress.handler.cage import Confinement
from openegress.handler.composing import Composer
from openegress.handler.control import RecordingControl
from openegress.handler.input_stop import InputStop
from openegress.handler.media_input import MediaInput
from openegress.handler.open_input import open_input
from openegress.handler.outputs import Outputs
from openegress.handler.past import Past, journal_and_past, shift_of_part
from openegress.handler.progress import report_progress
from openegress.handler.recorded_span import RecordedSpan
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.thumbnails import Thumbnails
from openegress.handler.uploaders import Uploaders
from openegress.handler.warm import WarmBrowser
from openegress.handler.worker_services import WorkerServices
from openegress.media.timeline_shift import ShiftedFrames, ShiftedPackets, TimelineShift
from openegress.request.orders import Order
from openegress.source import AwaitsSignal, Closed, Failed, Muted, Notice, Observed, OrderRequested, memory

_log = logging.getLogger(__name__)

_UNDER_WAY_S = 3.0
"""Time after the start of a recording at which memory used for the start is freed."""

T = TypeVar("T")
Send = Callable[[AnyEvent | LiveState | AddedTarget], None]
"""Thread-safe."""


@dataclass(frozen=True, slots=True)
class End:
    """The reason why a recording ends. Without an error it is complete."""

    reason: EndReason
    error: EgressError | None = None
    is_settled: bool = True
    """The spool holds nothing that still waits."""
    left_out: LeftOut = field(default_factory=LeftOut)
    span_ns: tuple[int, int] = (0, 0)
    """Beginning and end of the recording, in unix ns."""

    def event(self, phase: Phase | None) -> Ended:
        if self.error is None:
            return Ended(time.time_ns(), self.reason, phase=phase, left_out=self.left_out)
        error = self.error
        return Ended(
            time.time_ns(), self.reason, error.text, error.code.value, error.phase, left_out=self.left_out
        )


class _EndedEarly(Exception):
    """Raised if something ended the recording before it began."""

    def __init__(self, end: End) -> None:
        super().__init__()
        self.end = end


class Recording:
    """One recording. Run it once."""

    def __init__(
        self,
        plan: Plan,
        settings: HandlerSettings,
        send: Send,
        browser: WarmBrowser | None,
        confinement: Confinement,
        worker: WorkerServices,
        composer: Composer | None = None,
    ) -> None:
        """`composer` is set for a plan that is composed after it was recorded."""
        self._plan = plan
        self._settings = settings
        self._send = send
        self._browser = browser
        self._confinement = confinement
        self._worker = worker
        loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[End] = loop.create_future()
        self._begun: asyncio.Future[None] = loop.create_future()
        """Done once the outputs are open."""
        self._outputs: Outputs | None = None
        self._media_input: MediaInput | None = None
        self._composer = composer
        self._input_stop: InputStop | None = None
        self._orphaned = False
        self._phase: Phase | None = None
        """START_SIGNAL while it waits for the page's signal."""
        self._control = RecordingControl(plan, send, lambda reason: self._end(End(reason)))

    @property
    def _work(self) -> Plan:
        """The plan that is recorded: of the tracks, if they are composed afterwards."""
        return recording_of(self._plan, self._settings.spool) if self._composer is not None else self._plan

    @property
    def is_left_to_next(self) -> bool:
        """Whether the next process continues what this one has recorded."""
        return self._plan.resumes and self._begun.done() and not self._ending.done()

    def stop(self, reason: EndReason, *, orphaned: bool = False) -> None:
        """Ends the recording. `orphaned`: nobody receives the events any more. The spool keeps them for the
        next worker to report."""
        self._orphaned = self._orphaned or orphaned
        if reason is EndReason.KILLED and self._outputs is not None:
            self._outputs.stop_retrying()
        if reason is EndReason.KILLED and self._composer is not None:
            self._composer.stop()
        self._end(End(reason))

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        """Adds and removes streams once the recording has begun, or cannot begin. Raises EgressError with
        every failure; changes that worked stay in force."""
        await asyncio.wait((self._begun, self._ending), return_when=asyncio.FIRST_COMPLETED)
        if self._outputs is None or self._ending.done():
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        await self._outputs.update_streams(add, remove, self._send)

    async def apply_order(self, order: Order) -> None:
        """Applies an order and returns once it is carried out. Raises EgressError."""
        await self._control.apply_order(order)

    async def note_clip(self, clip: ClipStored) -> None:
        """Notes that part of the recording was stored as a clip."""
        if self._outputs is not None and not self._ending.done():
            await self._control.note_clip(clip, self._outputs)

    async def run(self, room_keys: KeySupply = NO_KEYS, *, resumes: bool = False, seal: str = "") -> None:
        """Runs to the last event. `resumes`: continues what another handler has left. `seal`: for the
        journal. Never raises: the Ended event has the error."""
        heart = asyncio.create_task(report_progress(self._send, self._recorded), name="progress")
        self._control.start()
        try:
            end = await self._record(room_keys, resumes, seal)
        except _EndedEarly as early:
            end = early.end
        except EgressError as error:
            end = End(EndReason.FAILURE, error)
        except Exception as error:
            _log.exception("session failed")
            end = End(EndReason.FAILURE, internal(f"{type(error).__name__}: {error}"))
        finally:
            self._control.close()
            await cancelled(heart)
        self._end(end)  # for tasks that still wait for the beginning
        self._send(end.event(self._phase))
        # A client that waits for the recording need not wait until a browser has ended.
        if self._input_stop is not None:
            await self._input_stop.closed()
        if self._browser is not None:
            await self._browser.close()

    def _recorded(self) -> tuple[MediaInput, Outputs] | None:
        if self._media_input is None or self._outputs is None:
            return None
        return self._media_input, self._outputs

    async def _record(self, room_keys: KeySupply, resumes: bool, seal: str) -> End:
        await self._confinement.enter()
        media_input = await self._unless_ended(
            open_input(self._work, self._settings, self._browser, self._fail_from_thread, room_keys)
        )
        self._confinement.seal()
        input_stop = self._input_stop = InputStop(media_input, self._settings.stop_timeout_s)
        watch = asyncio.create_task(self._watch(media_input), name="source events")
        watch.add_done_callback(self._watch_ended)
        try:
            opening = journal_and_past(Path(self._settings.spool), self._plan, resumes, seal)
            prepared, opened = await asyncio.gather(
                self._unless_ended(media_input.prepare()),
                # A process that still works on the folder may take long. A new folder is made in any case.
                self._unless_ended(opening) if resumes else opening,
                return_exceptions=True,
            )
            if isinstance(opened, BaseException):
                raise prepared or opened
            journal, past = opened
            try:
                if prepared is not None:
                    raise prepared
                self._phase = None
                end = await self._capture(media_input, input_stop, journal, past)
                if self._composer is not None:
                    end = await self._compose(self._composer, end, media_input, journal)
                if end.is_settled:
                    await self._settle(journal)
            except Exception:
                if self._outputs is None and past is None:
                    # No output was opened, so a recovery would find nothing.
                    await self._settle(journal)
                raise
            finally:
                journal.release()
            return end
        finally:
            await input_stop.stop()
            await cancelled(watch)

    async def _capture(
        self, media_input: MediaInput, input_stop: InputStop, journal: RecordingJournal, past: Past | None
    ) -> End:
        shift: TimelineShift | None = None

        def ask_key(at_ns: int) -> None:
            media_input.key_frame_at(at_ns if shift is None else at_ns - shift.by_ns)

        emit = self._send if self._composer is None else _discard
        outputs = Outputs(
            self._work,
            journal,
            emit,
            self._loop_safe_end,
            self._control.sidecars,
            ask_key=ask_key,
            stream_retry_s=self._settings.stream_retry_s,
            uploaders=Uploaders(emit, self._worker.connect),
        )
        name_values = journal.names
        if past is None:
            name_values = await self._unless_ended(
                self._worker.names.settle(media_input.name_values(), media_input.formats())
            )
        source_at_ns = started_at_ns = await media_input.start()
        if past is not None:
            shift = await past.shift_of(media_input, source_at_ns)
            started_at_ns = past.started_at_ns
        elif self._plan.part is not None and self._plan.part.pause is not None:
            shift = await shift_of_part(media_input, self._plan.part.pause, source_at_ns)
            started_at_ns = source_at_ns + shift.from_ns
        self._media_input = media_input
        resumed_at_ns = source_at_ns + (shift.from_ns if shift else 0)
        outputs.open(
            media_input.formats(),
            started_at_ns,
            name_values,
            passthrough=media_input.passes_through and self._composer is None,
            past=past,
            resumed_at_ns=resumed_at_ns,
        )
        self._outputs = outputs
        self._begun.set_result(None)
        frozen: EgressError | None = None
        try:
            sinks, taps = self._control.listeners(media_input)
            packets, frames, tracks = outputs.sinks, outputs.taps, outputs.tracks
            if shift is not None:
                packets = [ShiftedPackets(sink, shift) for sink in packets]
                frames = [ShiftedFrames(tap, shift) for tap in frames]
                tracks = [ShiftedPackets(sink, shift) for sink in tracks]
            all_taps = [*frames, *taps, Thumbnails(self._send)]
            media_input.connect([*packets, *sinks], all_taps, tracks)
            self._control.record(resumed_at_ns, media_input, outputs, past)
            self._send(self._restarted(past, resumed_at_ns, outputs) if past else Active(started_at_ns))
            asyncio.get_running_loop().call_later(_UNDER_WAY_S, memory.release_free_memory)
            end = await self._ending
            self._control.end()
            self._send(Ending(end.reason))
            if self._plan.resumes:
                await asyncio.to_thread(journal.note_ending)
            frozen = await input_stop.stop()
        finally:
            left_out = _left_out(media_input)
            ended_at_ns = time.time_ns()
            error = await outputs.finish(ended_at_ns, left_out, self._control.pauses_until(ended_at_ns))
        span_ns = started_at_ns, ended_at_ns
        return End(end.reason, end.error or frozen or error, outputs.is_settled(), left_out, span_ns)

    async def _compose(
        self, composer: Composer, end: End, media_input: MediaInput, journal: RecordingJournal
    ) -> End:
        """Composes the recording for the requested outputs."""
        error = None if _is_empty(end, media_input) else end.error
        text, code = (error.text, error.code.value) if error is not None else ("", "")
        pauses = self._control.pauses_until(end.span_ns[1])
        recorded = RecordedSpan(*end.span_ns, end.reason, text, code, end.left_out, pauses)
        await asyncio.to_thread(journal.note_recorded, recorded)
        if self._orphaned:
            return replace(end, is_settled=False)  # the next worker composes it, and reports it
        failure = await composer.run(journal, recorded)
        return End(end.reason, error or failure, composer.is_settled, end.left_out)

    def _restarted(self, past: Past, resumed_at_ns: int, outputs: Outputs) -> Restarted:
        """Notes the restart and returns its event. Raises EgressError."""
        restart = past.restarted(resumed_at_ns)
        outputs.note_restart(restart)
        restarts = (*past.restarts, restart)
        return Restarted(resumed_at_ns, restart.lost_at_ns, len(restarts), missing_ns(restarts))

    async def _settle(self, journal: RecordingJournal) -> None:
        """Removes the spool folder, as it holds nothing that still waits. The folder of an orphan stays: its
        last events wait there."""
        if self._orphaned:
            return
        try:
            await asyncio.to_thread(journal.settle)
        except EgressError as error:
            _log.warning("the spool could not be cleared: %s", error.text)

    async def _unless_ended(self, step: Coroutine[Any, Any, T]) -> T:
        """Returns the step's result. Cancels the step and raises _EndedEarly if an End comes first."""
        task = asyncio.create_task(step)
        waiting: list[asyncio.Future[Any]] = [task, self._ending]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            raise _EndedEarly(self._ending.result())
        return task.result()

    async def _watch(self, media_input: MediaInput) -> None:
        async for event in media_input.events():
            match event:
                case AwaitsSignal():
                    self._phase = Phase.START_SIGNAL
                    self._send(AwaitingStart())
                case Closed(reason):
                    self._end(End(reason))
                case Failed(error):
                    self._end(End(EndReason.FAILURE, error))
                case Muted(muted, at_ns):
                    if self._outputs is not None:
                        self._outputs.set_muted(muted, at_ns)
                case OrderRequested(order):
                    await self._control.apply_room_order(order)
                case Observed():
                    await self._control.observe(event)
                case Notice(text, fields):
                    _log.info(text, extra=fields)
                case Rejoined():
                    self._send(event)

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        """Ends the recording if the watch failed, because the end of the source would never be noticed."""
        if not watch.cancelled() and (error := watch.exception()) is not None:
            _log.error("the source's events could not be followed", exc_info=error)
            text = f"the source's events could not be followed: {error!r}"
            self._end(End(EndReason.FAILURE, internal(text, Phase.RECORDING)))

    def _end(self, end: End) -> None:
        if not self._ending.done():
            self._ending.set_result(end)

    def _loop_safe_end(self, reason: EndReason, error: EgressError | None) -> None:
        """Calls _end() on the event loop. Any thread may call it."""
        self._ending.get_loop().call_soon_threadsafe(self._end, End(reason, error))

    def _fail_from_thread(self, error: EgressError) -> None:
        self._loop_safe_end(EndReason.FAILURE, error)


def _is_empty(end: End, media_input: MediaInput) -> bool:
    """Whether no participant sent anything, which leaves no file of tracks but does leave a picture."""
    return end.reason is not EndReason.FAILURE and not media_input.sample().frames


def _discard(event: AnyEvent) -> None:
    """Drops updates of a file of tracks, which belong to none of the requested outputs."""


def _left_out(media_input: MediaInput) -> LeftOut:
    """The media left out. For passed-through tracks, the tracks report everything that was dropped."""
    sample = media_input.sample()
    return LeftOut(sample.losses, 0 if media_input.passes_through else sample.dropped_frames, sample.quicker)
