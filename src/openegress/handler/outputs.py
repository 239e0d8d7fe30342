"""Manages all outputs of one egress: opens, feeds and finishes them, counts failures, and lists them in
manifests."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import AnyEvent, EndReason, OutputFailed, StreamUpdate
from openegress.core.left_out import LeftOut
from openegress.core.live_streams import AddedTarget
from openegress.core.marker import Marker
from openegress.core.plan import FileOutput, Output, Plan, StreamTarget
from openegress.core.restart import Restart
from openegress.handler.past import Past, left_of
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.sidecars import SidecarRecorder, StoredSidecars
from openegress.handler.stems import StemRecorder
from openegress.handler.uploaders import Uploaders
from openegress.media import FrameSink, PacketSink, StreamFormat
from openegress.output import Opening
from openegress.output.build import BuiltOutput, build_output
from openegress.output.manifest import ClipRecord, Pause, Records
from openegress.output.manifest_store import header_of, store_manifests
from openegress.output.size_guard import SizeLimit

_log = logging.getLogger(__name__)

MAX_MARKERS = 1000
"""Limit per recording: setting a marker with each key press must not fill its journal."""

MAX_CLIPS = 1000
"""Limit per recording for clips in its manifest; see MAX_MARKERS."""

OnEnd = Callable[[EndReason, EgressError | None], None]
"""Called with what ends the whole egress. Any thread may call it."""


class Outputs:
    """The outputs of one egress. Build it in the event loop; then open(), feed `sinks` and `taps`, and
    finish()."""

    def __init__(
        self,
        plan: Plan,
        journal: RecordingJournal,
        emit: Callable[[AnyEvent], None],
        on_end: OnEnd,
        sidecars: SidecarRecorder | StoredSidecars,
        *,
        ask_key: Callable[[int], None] = lambda at_ns: None,
        stream_retry_s: float | None = None,
        uploaders: Uploaders | None = None,
    ) -> None:
        """`ask_key`: see build_output()."""
        self._plan = plan
        self._sidecars = sidecars
        self._stems = StemRecorder(plan)
        self._uploaders = uploaders or Uploaders(emit)
        self._journal = journal
        self._send = emit
        self._on_end = on_end
        self._failures: dict[int, OutputFailed] = {}
        self._opened: dict[int, BuiltOutput] = {}
        self._opening: Opening | None = None
        self._has_manifests = False
        self._markers: tuple[Marker, ...] = ()
        self._clips: tuple[ClipRecord, ...] = ()
        self._restarts: tuple[Restart, ...] = ()
        self._outputs = [
            build_output(
                output,
                index,
                emit=self._emit,
                size_limit=_size_limit(plan, output, plan.end_rules.max_size_bytes, on_end),
                on_empty=self._on_empty,
                stream_retry_s=stream_retry_s,
                left=left_of(plan, index, journal),
                uploader=self._uploaders.make,
                ask_key=ask_key,
            )
            for index, output in enumerate(plan.outputs)
        ]

    @property
    def sinks(self) -> Sequence[PacketSink]:
        sinks = [sink for built in self._opened.values() if (sink := built.packets) is not None]
        return [*sinks, *self._stems.of_packets]

    @property
    def tracks(self) -> Sequence[PacketSink]:
        """Sinks for a room's tracks as they are, in addition to the encoded media."""
        sinks = [sink for built in self._opened.values() if (sink := built.tracks) is not None]
        return [*sinks, *self._stems.of_tracks]

    @property
    def taps(self) -> Sequence[FrameSink]:
        return [sink for built in self._opened.values() if (sink := built.frames) is not None]

    @property
    def goes_on_at_ns(self) -> int:
        """How much of the timeline an earlier handler has recorded."""
        return self._opening.goes_on_at_ns if self._opening is not None else 0

    def size_bytes(self) -> int:
        return sum(built.output.size_bytes() for built in self._opened.values())

    def sent_bytes(self) -> int:
        """Bytes that left this machine, or at least its spool."""
        live = (built.output.size_bytes() for built in self._opened.values() if built.is_live)
        return self._uploaders.stored_bytes + sum(live)

    def waiting_uploads(self) -> int:
        return sum(built.output.waiting_uploads() for built in self._opened.values())

    async def written(self) -> None:
        """Returns when everything given to the outputs so far has reached their files."""
        for built in list(self._opened.values()):
            if built.patient is not None:
                await built.patient.written()

    def open(
        self,
        formats: Sequence[StreamFormat],
        started_at_ns: int,
        name_values: dict[str, str],
        *,
        passthrough: bool,
        past: Past | None = None,
        resumed_at_ns: int = 0,
    ) -> None:
        """Opens the outputs. `passthrough`: the packets are the source's own. `past`: the recording continues
        it from `resumed_at_ns` on, and `started_at_ns` is its beginning. Raises EgressError if no output
        opens, or if one that should continue does not."""
        values = {**self._plan.name_values, **name_values}
        self._journal.note_names(values)
        if passthrough:
            self._journal.note_passthrough()
        if self._plan.resumes:
            self._journal.note_started(started_at_ns)
        spool = str(self._journal.folder)
        part = self._plan.part
        gap_ns = part.restarts_until(started_at_ns)[-1].gap_ns if part is not None else 0
        self._opening = Opening(formats, started_at_ns, spool, values, gap_ns=gap_ns)
        if past is not None:
            restart = past.restarted(resumed_at_ns)
            late = self._journal.late_since(past.stopped_s)
            self._opening = replace(
                self._opening, restart=restart, gap_ns=restart.gap_ns, late=late, markers=past.markers
            )
            self._restarts = past.restarts
        errors = []
        for index, built in enumerate(self._outputs):
            try:
                # The tracks of a room are not known beforehand.
                is_of_tracks = built.tracks is not None
                built.output.open(replace(self._opening, formats=()) if is_of_tracks else self._opening)
            except EgressError as error:
                errors.append(error)
                self._emit(OutputFailed(index, error.text, error.code.value))
            else:
                self._opened[index] = built
        if not self._opened or (past is not None and errors):
            raise errors[0]
        if past is not None:
            self._go_on(past)
        self._sidecars.open(self._opening)
        self._stems.open(replace(self._opening, formats=()))

    def _go_on(self, past: Past) -> None:
        self._markers, self._clips = past.markers, past.clips
        for built in self._opened.values():
            if built.guard is not None:
                built.guard.go_on(built.output.size_bytes(), past.end_ns)

    def note_restart(self, restart: Restart) -> None:
        """Notes a restart in the journal. Blocking. Raises EgressError if the disk refuses it."""
        self._journal.note_restart(len(self._restarts), restart)
        self._restarts = (*self._restarts, restart)

    @property
    def only_sends(self) -> bool:
        """Whether another process may continue the recording, but no media on disk shows how far it got."""
        return self._plan.resumes and all(built.is_live for built in self._outputs)

    def note_alive(self) -> None:
        """Notes a sign of life. Blocking."""
        self._journal.note_alive()

    def note_change(self, change: EndRules | str) -> None:
        """Notes rules, or metadata of the recorder's participant, for a handler that continues it.
        Blocking."""
        if not self._plan.resumes:
            return
        try:
            if isinstance(change, str):
                self._journal.note_metadata(change)
            else:
                self._journal.note_rules(change)
        except EgressError as error:
            _log.error("the journal is behind", extra={"error": error.text})

    def note_pauses(self, pauses: tuple[Pause, ...]) -> None:
        """Notes the last one of `pauses`, which are all so far. Blocking."""
        try:
            self._journal.note_pause(len(pauses) - 1, pauses[-1])
        except EgressError as error:
            _log.error("the journal is behind", extra={"error": error.text})

    async def update_streams(
        self,
        add: tuple[StreamTarget, ...],
        remove: tuple[str, ...],
        on_added: Callable[[AddedTarget], None],
    ) -> None:
        """Raises EgressError with every failure; changes that worked stay in force. Streams that are slow to
        end do so while others continue. `on_added` is called only if another process may continue the
        recording."""
        streams = next((b.streams for b in self._opened.values() if b.streams is not None), None)
        if streams is None:
            raise EgressError(Code.INVALID_ARGUMENT, "UpdateStream called on non-streaming egress")
        errors: list[EgressError] = []
        for target in add:
            try:
                streams.add(target)
                if self._plan.resumes:
                    number = streams.number_of(target)
                    self._journal.note_target(streams.index, number, target)
                    on_added(AddedTarget(streams.index, number, target))
            except EgressError as error:
                errors.append(error)
        removals = await asyncio.gather(*(streams.remove(url) for url in remove), return_exceptions=True)
        for removal in removals:
            if isinstance(removal, EgressError):
                errors.append(removal)
            elif isinstance(removal, BaseException):
                raise removal
        if errors:
            raise EgressError(errors[0].code, "\n".join(error.message for error in errors))

    def change_size_limit(self, max_bytes: int) -> None:
        """Changes the recording's own limit; 0: none. Media already written counts."""
        for output, built in zip(self._plan.outputs, self._outputs, strict=True):
            if built.guard is not None:
                built.guard.change(_size_limit(self._plan, output, max_bytes, self._on_end))

    def mark(self, marker: Marker) -> None:
        """Adds a chapter marker. Blocking. Raises EgressError if the disk refuses it, or there are too
        many."""
        if len(self._markers) >= MAX_MARKERS:
            why = f"the recording has {MAX_MARKERS} markers, the maximum"
            raise EgressError(Code.RESOURCE_EXHAUSTED, why)
        self._journal.note_marker(len(self._markers), marker)
        self._markers = (*self._markers, marker)
        for built in self._opened.values():
            if built.marked is not None:
                built.marked.mark(marker)

    def note_clip(self, clip: ClipRecord) -> None:
        """Notes a stored clip for the manifests, which list a limited number. Blocking."""
        if len(self._clips) >= MAX_CLIPS:
            return
        self._journal.note_clip(len(self._clips), clip)
        self._clips = (*self._clips, clip)

    def set_muted(self, muted: bool, at_ns: int) -> None:
        """Notes that the recorded track was muted or unmuted, at a time in unix ns."""
        if self._opening is None:
            return
        for built in self._opened.values():
            if built.mute_listener is not None:
                built.mute_listener.set_muted(muted, at_ns - self._opening.started_at_ns)

    def stop_retrying(self) -> None:
        """Stops retrying uploads, because the process is about to end. What no storage takes now waits in the
        spool."""
        self._uploaders.stop_retrying()

    async def finish(
        self, ended_at_ns: int, left_out: LeftOut, pauses: tuple[Pause, ...] = ()
    ) -> EgressError | None:
        """Finishes each output separately, then the manifests. Returns the error, if anything is missing."""
        indices = list(self._opened)
        results = await asyncio.gather(
            *(self._opened[index].output.finish(ended_at_ns) for index in indices), return_exceptions=True
        )
        errors: dict[int, EgressError] = {}
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, EgressError):
                errors[index] = result
            elif isinstance(result, BaseException):
                raise result
        for index, failed in self._failures.items():
            text, code = failed.error, Code(failed.code)
            errors.setdefault(index, EgressError(code, text, fault=Fault.DESTINATION))
        told, uploader = self._journal.told, self._uploaders.make
        sidecars, failure = await self._sidecars.finish(ended_at_ns, uploader, self._emit)
        stems, no_stems = await self._stems.finish(told, uploader, self._emit)
        if (missing := failure or no_stems) is not None:
            errors[len(self._outputs)] = missing
        try:
            beside = Records(files=(*sidecars.files, *stems.files))
            await self._store_manifests(ended_at_ns, left_out, pauses, beside)
            self._has_manifests = True
        except EgressError as error:
            errors[len(self._outputs)] = error
        return self._verdict(errors)

    def is_settled(self) -> bool:
        """After finish(): whether the spool is no longer needed, because everything is stored or there was
        nothing."""
        is_settled = self._has_manifests and self._sidecars.is_settled and self._stems.is_settled
        return is_settled and all(built.output.is_settled() for built in self._opened.values())

    def _verdict(self, errors: dict[int, EgressError]) -> EgressError | None:
        """The error of the egress, if any. A broken stream is reported in its StreamInfo; it fails the egress
        only if there was no other output."""
        stored = {
            index: error
            for index, error in errors.items()
            if index >= len(self._outputs) or not self._outputs[index].is_live
        }
        if stored:
            return stored[min(stored)]
        return next(iter(errors.values())) if errors and len(errors) == len(self._outputs) else None

    async def _store_manifests(
        self, ended_at_ns: int, left_out: LeftOut, pauses: tuple[Pause, ...], beside: Records
    ) -> None:
        if self._opening is None:
            return
        values, started_at_ns = self._opening.name_values, self._opening.started_at_ns
        await store_manifests(
            header_of(
                self._plan,
                values,
                started_at_ns,
                ended_at_ns,
                passthrough=self._journal.is_passthrough,
                left_out=left_out,
                pauses=pauses,
                restarts=self._restarts,
                markers=self._markers,
                clips=self._clips,
            ),
            [(self._plan.outputs[index], built.output.records()) for index, built in self._opened.items()],
            self._opening.spool,
            values,
            beside=beside,
            emit=self._emit,
            uploader=self._uploaders.make,
        )

    def _emit(self, event: AnyEvent) -> None:
        """Notes an event in the journal and sends it. Any thread may call it."""
        self._journal.note(event)
        if isinstance(event, StreamUpdate) and self._plan.resumes:
            self._journal.note_stream(event)
        self._send(event)
        if isinstance(event, OutputFailed):
            self._failures.setdefault(event.output, event)
            if len(self._failures) == len(self._outputs):
                self._on_end(EndReason.FAILURE, EgressError(Code(event.code), event.error))

    def _on_empty(self) -> None:
        """Handles the removal of the last URL: ends the egress unless it has other outputs."""
        if all(built.streams is not None for built in self._outputs):
            self._on_end(EndReason.STREAMS_STOPPED, None)


def _size_limit(plan: Plan, output: Output, own_bytes: int, on_end: OnEnd) -> SizeLimit | None:
    """The smaller of the server's limit, which is for files, and the recording's own."""
    session_bytes = plan.limits.file_bytes if isinstance(output, FileOutput) else 0
    if session_bytes and not 0 < own_bytes < session_bytes:
        return SizeLimit(session_bytes, lambda: on_end(EndReason.LIMIT, None))
    return SizeLimit(own_bytes, lambda: on_end(EndReason.MAX_SIZE, None)) if own_bytes else None
