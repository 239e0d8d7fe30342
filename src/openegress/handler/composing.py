"""Composes recorded tracks from the spool to the plan's outputs, in the machine's spare time."""

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec

from openegress.core import plan as plans
from openegress.core.codecs import Container
from openegress.core.deferred import MAX_TRIES
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.events import AnyEvent, Composing, Ended, EndReason, EndReport, FileUpdate
from openegress.core.plan import FileOutput, LayoutSource, Limits, Plan
from openegress.core.tasks import cancelled
from openegress.core.units import S
from openegress.handler.after_pauses import AfterPauses
from openegress.handler.compose_turn import ComposeTurn
from openegress.handler.outputs import Outputs
from openegress.handler.recorded_span import RecordedSpan
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.sidecars import StoredSidecars
from openegress.handler.spooled_tracks import SpooledTracks
from openegress.handler.uploaders import Uploaders
from openegress.media.meeting_file import MeetingFile
from openegress.media.pipeline import EncodePipeline
from openegress.output.content_types import content_type_of
from openegress.output.manifest import paused_ns
from openegress.request.output_names import tracks_name
from openegress.source.room.composition import Composition, View
from openegress.source.room.meeting_history import MeetingHistory
from openegress.source.room.meeting_lines import lines_of
from openegress.storage import open_storage
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Connect

_log = logging.getLogger(__name__)

_STEP_PERCENT = 5
_STEP_S = 2.0
"""Minimum time between two progress reports, because each causes a webhook."""

T = TypeVar("T")


class Composer:
    """Composes one egress. Run it once."""

    def __init__(
        self,
        plan: Plan,
        send: Callable[[AnyEvent], None],
        turn: ComposeTurn,
        connect: Connect = open_storage,
    ) -> None:
        # Limits on a recording have applied while it was recorded.
        self._plan = msgspec.structs.replace(plan, limits=Limits(), end_rules=EndRules())
        self._send = send
        self._turn = turn
        self._uploaders = Uploaders(send, connect)
        self._journal: RecordingJournal
        self._tracks: SpooledTracks
        self._thread = ThreadPoolExecutor(1, "compose", initializer=_be_idle)
        self._stopped = asyncio.Event()
        self._composition: Composition | None = None
        self._outputs: Outputs | None = None
        self._failure: EgressError | None = None
        self._began_ns = 0
        """Unix ns of media time zero, for a recording whose process died."""
        self._reported_percent = -1
        self._reported_at_s = 0.0
        """Monotonic time of the last report of progress."""
        self.is_settled = False
        """After run(): the spool holds nothing that still waits."""

    def stop(self) -> None:
        """Stops composing, because the process is about to end. The next process does what is left."""
        self._stopped.set()
        if self._composition is not None:
            self._composition.stop()
        if self._outputs is not None:
            self._outputs.stop_retrying()

    async def run(self, journal: RecordingJournal, recorded: RecordedSpan) -> EgressError | None:
        """Composes the recording. Returns the error, if any. Never raises an EgressError."""
        self._journal, self._tracks = journal, SpooledTracks(journal.folder)
        return await self._run(recorded)

    async def _run(self, recorded: RecordedSpan | None) -> EgressError | None:
        """Composes the recording; `recorded` is None if the recording process died."""
        try:
            await self._wait_for_turn()
            if await asyncio.to_thread(self._journal.begin_composing) > MAX_TRIES:
                return await self._store_tracks(internal(f"its process ended {MAX_TRIES} times"))
            try:
                if recorded is None:
                    recorded = await self._idly(self._cut_off)
                return await self._compose(recorded)
            except EgressError as error:
                failure = error
            except Exception as error:
                _log.exception("composing")
                failure = internal(f"{type(error).__name__}: {error}")
            if not self._stopped.is_set():
                return await self._store_tracks(failure)
            await asyncio.to_thread(self._journal.take_back_composing)
            return failure
        except EgressError as error:
            return error
        finally:
            self._thread.shutdown(wait=False)

    async def _wait_for_turn(self) -> None:
        """Waits for this recording's turn. Raises EgressError if the service ends first."""
        self._send(Composing(None))
        waits = [asyncio.create_task(self._turn.wait()), asyncio.create_task(self._stopped.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*waits)
        self._refuse_incomplete()

    async def run_left(self, journal: RecordingJournal, late: LateUploads) -> tuple[Ended, bool]:
        """Composes what a dead process has left. Returns its last event, and whether the spool is no longer
        needed. Raises EgressError."""
        self._journal, self._tracks = journal, SpooledTracks(journal.folder)
        self._uploaders.late = late
        recorded = journal.recorded
        if recorded is None:
            # Composing discards the outputs' updates.
            self._began_ns = min((told.started_at_ns for told in journal.told.values()), default=0)
        error = await self._run(recorded)
        if recorded is None or error is not None:
            ended = _failed(error)
        else:
            how, text, code = recorded.reason, recorded.error, recorded.code
            recovered = EndReport.RECOVERED
            ended = Ended(time.time_ns(), how, text, code, left_out=recorded.left_out, report=recovered)
        return ended, self.is_settled

    def _cut_off(self) -> RecordedSpan:
        """The span recorded by a process that died: it ends with the last packet of the file."""
        path = self._tracks.take()
        length_ns = MeetingFile(path).end_ns if path is not None else 0
        ended_at_ns = self._began_ns + length_ns + paused_ns(self._journal.pauses)
        pauses = tuple(each.until(ended_at_ns) for each in self._journal.pauses)
        return RecordedSpan(self._began_ns, ended_at_ns, EndReason.FAILURE, pauses=pauses)

    async def _compose(self, recorded: RecordedSpan) -> EgressError | None:
        """Returns the error of an output that could not store everything. Raises EgressError if composing
        fails."""
        self._report_progress(0, recorded)
        plan, source, video = self._plan, self._plan.source, self._plan.video
        assert isinstance(source, LayoutSource) and video is not None
        if video.adapts:
            video = msgspec.structs.replace(video, speed=self._turn.speed)
        path = await asyncio.to_thread(self._tracks.take)
        file = await self._idly(partial(MeetingFile, path)) if path is not None else None
        changes = await self._idly(
            partial(self._tracks.changes, recorded.started_at_ns, recorded.ended_at_ns)
        )
        lines = lines_of(file.tracks) if file is not None else []
        moments = MeetingHistory(lines).moments(changes)
        view = View.of_plan(plan, source, recorded.started_at_ns)
        composition = await self._idly(partial(Composition, file, lines, moments, view, video))
        pipeline = await self._idly(
            partial(
                EncodePipeline,
                video,
                plan.audio,
                steady=False,
                on_error=self._fail,
                hold_s=math.inf,
                loudness_lufs=plan.loudness_lufs,
                speeds=self._turn,
            )
        )
        self._composition = composition
        outputs = self._opened(recorded, pipeline)
        for marker in self._journal.markers:
            await asyncio.to_thread(outputs.mark, marker)
        pipeline.attach(outputs.sinks, outputs.taps)
        if self._stopped.is_set():
            composition.stop()
        try:
            await self._idly(pipeline.start)
            pace = partial(self._pace, asyncio.get_running_loop(), outputs, recorded)
            sink = AfterPauses(pipeline, recorded.pauses, recorded.started_at_ns)
            await self._idly(partial(composition.give, sink, 0, recorded.length_ns, pace))
        finally:
            composition.stop()
            await pipeline.finish()
        self._refuse_incomplete()
        error = await outputs.finish(recorded.ended_at_ns, recorded.left_out, recorded.pauses)
        self._refuse_incomplete()
        await asyncio.to_thread(self._journal.note_composed)
        self.is_settled = outputs.is_settled()
        return error

    def _opened(self, recorded: RecordedSpan, pipeline: EncodePipeline) -> Outputs:
        outputs = Outputs(
            self._plan,
            self._journal,
            self._send,
            self._end,
            StoredSidecars(self._plan),
            ask_key=pipeline.key_frame_at,
            uploaders=self._uploaders,
        )
        self._outputs = outputs
        outputs.open(pipeline.formats, recorded.started_at_ns, self._journal.names, passthrough=False)
        return outputs

    def _pace(
        self, loop: asyncio.AbstractEventLoop, outputs: Outputs, recorded: RecordedSpan, done_s: int
    ) -> None:
        """Runs in the thread. Waits for disks, so that composed media does not pile up in memory."""
        asyncio.run_coroutine_threadsafe(outputs.written(), loop).result()
        if self._failure is not None:
            raise self._failure
        loop.call_soon_threadsafe(self._report_progress, done_s, recorded)

    def _report_progress(self, done_s: int, recorded: RecordedSpan) -> None:
        percent, now_s = min(100, done_s * S * 100 // max(1, recorded.length_ns)), time.monotonic()
        is_first = self._reported_percent < 0
        is_due = percent >= self._reported_percent + _STEP_PERCENT and now_s >= self._reported_at_s + _STEP_S
        if is_first or is_due:
            self._reported_percent, self._reported_at_s = percent, now_s
            self._send(Composing(percent))

    def _refuse_incomplete(self) -> None:
        """Raises EgressError if an output failed or the service ended."""
        if self._failure is not None:
            raise self._failure
        if self._stopped.is_set():
            raise EgressError(
                Code.UNAVAILABLE,
                "the service ended before the recording was composed; its next start does that",
                fault=Fault.SERVICE,
            )

    async def _store_tracks(self, why: EgressError) -> EgressError:
        """Stores the tracks, so that the recording is not lost when its picture cannot be made."""
        _log.error("the recording could not be composed", extra={"error": why.text})
        tracks = await asyncio.to_thread(self._tracks.take)
        if tracks is None:
            self.is_settled = True  # no participant sent anything
            return why
        index, output = _where(self._plan)
        uploader = self._uploaders.make(output.storage)
        values = {**self._plan.name_values, **self._journal.names}
        name = tracks_name(output, values)
        try:
            kind = content_type_of(Container.MKV, with_video=True)
            stored = await uploader.put(tracks, name, kind, delete_local=True)
        finally:
            await uploader.close()
        if isinstance(output, FileOutput):
            size_bytes, location = stored.size_bytes, stored.location
            self._send(FileUpdate(index, filename=name, size_bytes=size_bytes, location=location))
        self.is_settled = True
        return EgressError(
            why.code,
            f"the recording could not be composed ({why.text}); its tracks are stored as they are: {name}",
            fault=why.fault,
            phase=Phase.FINISH,
        )

    async def _idly(self, call: Callable[[], T]) -> T:
        """Runs `call` in an idle-priority thread, whose own threads are idle too."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _end(self, reason: EndReason, error: EgressError | None) -> None:
        """Keeps the error that leaves no output to compose for."""
        self._fail(error or internal("no output is left for the composed recording"))

    def _fail(self, error: EgressError) -> None:
        """Keeps the first error and stops the composition. Any thread may call it."""
        self._failure = self._failure or error
        if self._composition is not None:
            self._composition.stop()


def is_left_to_compose(journal: RecordingJournal) -> bool:
    """Whether a process that died has left the recording uncomposed."""
    return not journal.is_composed and bool(journal.told)


def _failed(error: EgressError | None) -> Ended:
    text, code = (error.text, error.code.value) if error is not None else ("", "")
    return Ended(time.time_ns(), EndReason.FAILURE, text, code)


def _be_idle() -> None:
    """Lowers the priority of this thread and of those it starts from here on."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _where(plan: Plan) -> tuple[int, plans.FileOutput | plans.SegmentOutput | plans.ImageOutput]:
    """The first stored output, and its number."""
    return next(
        (number, output)
        for number, output in enumerate(plan.outputs)
        if isinstance(output, plans.FileOutput | plans.SegmentOutput | plans.ImageOutput)
    )
