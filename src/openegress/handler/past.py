"""The past of a recording that another handler continues, from its journal and its spool."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.events import FileUpdate, ImagesUpdate, SegmentsUpdate, StreamUpdate
from openegress.core.marker import Marker
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import (
    FileOutput,
    ImageOutput,
    Plan,
    SegmentOutput,
    StreamOutput,
    TracksFile,
    TracksSource,
    WebsocketOutput,
)
from openegress.core.restart import Restart
from openegress.handler.media_input import MediaInput
from openegress.handler.recording_journal import (
    OutputUpdate,
    RecordingJournal,
    changed_rules_of,
    metadata_of,
)
from openegress.media.duration import duration_ns
from openegress.media.timeline_shift import TimelineShift
from openegress.output.file.recorder import left_in
from openegress.output.file.recover import container_of, local_path
from openegress.output.hls.recover import find_left
from openegress.output.images.recover import last_taken_ns
from openegress.output.left import NOTHING_LEFT, LeftOutput, LeftStream
from openegress.output.manifest import ClipRecord, Pause
from openegress.output.size_guard import HEADER_BYTES
from openegress.request.live_state import as_shown
from openegress.storage.journal import Journal

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Past:
    started_at_ns: int
    """Unix ns of media time zero."""
    end_ns: int
    """End of the recorded media on the timeline."""
    mode: PauseMode
    pauses: tuple[Pause, ...] = ()
    """The pauses so far. An open one comes last, with the end 0."""
    restarts: tuple[Restart, ...] = ()
    markers: tuple[Marker, ...] = ()
    clips: tuple[ClipRecord, ...] = ()
    stopped_s: float = field(default=0.0, compare=False)
    """The unix time in seconds at which the recorded files were last written."""

    @property
    def is_paused(self) -> bool:
        return bool(self.pauses) and not self.pauses[-1].resumed_at_ns

    @property
    def is_cut_now(self) -> bool:
        """Whether it is paused and the timeline leaves the pause out."""
        return self.is_paused and self.mode is PauseMode.CUT

    @property
    def lost_at_ns(self) -> int:
        """Unix ns of the end of the recorded media."""
        return self.started_at_ns + self.end_ns + self._left_out_ns()

    def media_ns(self, unix_ns: int) -> int:
        """The position on the timeline of what was recorded at this unix time."""
        return unix_ns - self.started_at_ns - self._left_out_ns(unix_ns)

    def _left_out_ns(self, until_ns: int | None = None) -> int:
        """Time before `until_ns` that the timeline leaves out; None: all."""
        cut = self.pauses if self.mode is PauseMode.CUT else ()
        spans = [(each.resumed_at_ns, each.resumed_at_ns - each.paused_at_ns) for each in cut]
        spans += [(each.resumed_at_ns, each.gap_ns) for each in self.restarts]
        return sum(length for end, length in spans if end and (until_ns is None or end <= until_ns))

    def restarted(self, resumed_at_ns: int) -> Restart:
        """The restart, with the gap until `resumed_at_ns` or until the open pause began."""
        if self.is_cut_now:
            resumed_at_ns = max(self.lost_at_ns, self.pauses[-1].paused_at_ns)
        return Restart(self.lost_at_ns, resumed_at_ns, self.end_ns)

    async def shift_of(self, media_input: MediaInput, source_at_ns: int) -> TimelineShift:
        """Maps the media of an input that began at this unix time. An open pause continues from the input's
        first frame. Raises EgressError."""
        if not self.is_paused:
            return self.shift(source_at_ns)
        return self.shift(source_at_ns, await paused_from_ns(media_input, self.mode, source_at_ns))

    def shift(self, source_at_ns: int, from_ns: int = 0) -> TimelineShift:
        """Maps a source whose time zero was at this unix time and whose media counts from its `from_ns`
        on."""
        by_ns = self.end_ns - from_ns
        return TimelineShift(by_ns, source_at_ns - self.started_at_ns - by_ns, from_ns)


async def shift_of_part(media_input: MediaInput, mode: PauseMode, source_at_ns: int) -> TimelineShift:
    """Maps the media of a part whose egress is paused: its timeline begins with the pause. Raises
    EgressError."""
    from_ns = await paused_from_ns(media_input, mode, source_at_ns)
    return TimelineShift(-from_ns, 0, from_ns)


async def paused_from_ns(media_input: MediaInput, mode: PauseMode, source_at_ns: int) -> int:
    """Pauses an input that began at this unix time, before any of its media counts. Returns the beginning of
    the pause in the input's time. Raises EgressError."""
    from_ns = max(1, await media_input.pause(mode) - source_at_ns)
    media_input.key_frame_at(from_ns)
    return from_ns


def as_changed(plan: Plan, spool: Path) -> Plan:
    """Applies the changes requested while it ran. Never raises: a handler that continues it finds what is
    wrong with its journal. Blocking."""
    try:
        journal = Journal.load(spool / plan.egress_id, mends=False)  # its writer may still be writing
        plan = msgspec.structs.replace(plan, end_rules=changed_rules_of(journal) or plan.end_rules)
        for metadata in metadata_of(journal):
            plan = as_shown(plan, metadata)
    except (EgressError, msgspec.MsgspecError) as error:
        _log.warning("changes of a recording are lost: %s", error)
    return plan


async def journal_and_past(
    spool: Path, plan: Plan, resumes: bool, seal: str = ""
) -> tuple[RecordingJournal, Past | None]:
    """The journal of a new recording, whose plan has the worker's `seal`, or of one that continues. Raises
    EgressError if that is impossible."""
    if not resumes:
        # The disk may be slow to take the plan.
        return await asyncio.to_thread(RecordingJournal.create, spool, plan, seal), None
    journal = await RecordingJournal.taken_over(spool / plan.egress_id)
    try:
        return journal, await asyncio.to_thread(past_of, plan, journal)
    except BaseException:
        journal.release()
        raise


def past_of(plan: Plan, journal: RecordingJournal) -> Past:
    """Raises EgressError if the recording cannot be continued. Blocking."""
    try:
        past = Past(
            journal.started_at_ns,
            0,
            plan.on_pause,
            journal.pauses,
            journal.restarts,
            journal.markers,
            journal.clips,
            journal.last_change_s(),
        )
    except ValueError as error:
        raise _refused(f"its journal is damaged: {error}") from None
    if journal.is_ending:
        raise _refused("it was ending")
    if not past.started_at_ns:
        raise _refused("nothing was recorded")
    last = {index: journal.told[index, part] for index, part in sorted(journal.told)}
    ends: dict[int, int] = {}
    for index, told in last.items():
        if told.ended_at_ns:
            raise _refused(f"output {index} had ended")
        ends[index] = _end_ns(plan, journal.folder, index, told, past)
    if not ends and journal.alive_at_ns:
        ends[0] = past.media_ns(journal.alive_at_ns)  # it has only streams
    # A handler may have died before any of it reached the disk.
    gone_on_ns = [each.at_ns for each in past.restarts]
    return replace(past, end_ns=max([*_decisive(plan, journal, ends), *gone_on_ns], default=0))


def _decisive(plan: Plan, journal: RecordingJournal, ends: Mapping[int, int]) -> list[int]:
    """The items of `ends` (by output), the last of which is where the timeline continues. A joined file must
    not get a gap because another output, with a clock of its own, got further. A picture is taken before the
    frames that follow it in a file."""
    stored = [n for n in ends if not isinstance(plan.outputs[n], ImageOutput)]
    joined = [n for n in stored if not left_of(plan, n, journal).parts]
    return [ends[n] for n in joined or stored or ends]


def left_of(plan: Plan, index: int, journal: RecordingJournal) -> LeftOutput:
    """The stored part that an output continues; NOTHING_LEFT if it begins. Raises msgspec.DecodeError."""
    match plan.outputs[index]:
        case FileOutput() as output:
            every = (journal.told[key] for key in sorted(journal.told) if key[0] == index)
            parts = tuple(each for each in every if isinstance(each, FileUpdate))
            is_joined = len(parts) == 1 and _is_joined(plan, output, parts[0])
            return NOTHING_LEFT if is_joined else LeftOutput(parts)
        case StreamOutput() as output:
            streams = (
                LeftStream(target, journal.stream(index, number) or _told_before(plan, index, number))
                for number, target in enumerate(journal.targets(output, index))
            )
            return LeftOutput(streams=tuple(streams))
        case WebsocketOutput():
            return LeftOutput(websocket=journal.stream(index) or _told_before(plan, index))
        case _:
            return NOTHING_LEFT


def _told_before(plan: Plan, index: int, number: int = 0) -> StreamUpdate | None:
    """What another worker has reported."""
    return plan.part.stream(index, number) if plan.part is not None else None


def _is_joined(plan: Plan, output: FileOutput, told: FileUpdate) -> bool:
    """Whether the rest goes into the same file rather than into another part."""
    holds_tracks = isinstance(output, TracksFile) or isinstance(plan.source, TracksSource)
    is_apart = output.split is not None or told.part or holds_tracks
    return not is_apart and container_of(told) is Container.MP4


def _end_ns(plan: Plan, folder: Path, index: int, told: OutputUpdate, past: Past) -> int:
    """The end of the media of an output that can be continued, on the timeline; 0: it has none."""
    match plan.outputs[index], told:
        case FileOutput() as output, FileUpdate():
            path = local_path(folder / f"file-{index}", output, told)
            if not _is_joined(plan, output, told):
                return told.begin_ns + (duration_ns(path) if path.exists() else 0)
            behind = left_in(path, container_of(told))
            if behind is None and path.exists() and path.stat().st_size > HEADER_BYTES:
                raise _refused("its file cannot be read, and must not be started again")
            return behind.end_ns if behind is not None else 0
        case SegmentOutput() as output, SegmentsUpdate():
            left = find_left(folder / f"segments-{index}", output, "", told.started_at_ns)
            return past.media_ns(left[-1].entry.ended_at_ns) if left else 0
        case ImageOutput(), ImagesUpdate():
            taken_ns = last_taken_ns(folder / f"images-{index}")
            return past.media_ns(taken_ns) if taken_ns else 0
        case _:
            return 0


def _refused(why: str) -> EgressError:
    return EgressError(
        Code.FAILED_PRECONDITION,
        f"the recording cannot be continued: {why}",
        fault=Fault.SERVICE,
        phase=Phase.RECOVERY,
    )
