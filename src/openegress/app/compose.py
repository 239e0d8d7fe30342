"""Makes a film from a recording of tracks: one picture and one sound."""

import asyncio
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from openegress.core import foreign_json
from openegress.core.codecs import AudioCodec, Container, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, invalid
from openegress.core.events import AnyEvent, OutputFailed
from openegress.core.plan import FileOutput, VideoEncoding
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.media.meeting_file import MeetingFile
from openegress.media.pipeline import EncodePipeline
from openegress.output import Opening
from openegress.output.file.recorder import FileRecorder
from openegress.request import encoding, layouts
from openegress.source.room.composition import Composition, View
from openegress.source.room.meeting_history import MeetingHistory, RoomChange, of_events, of_packets
from openegress.source.room.meeting_lines import MeetingLine, lines_of
from openegress.source.room.sound_levels import speaking
from openegress.storage.uploader import Uploader

_log = structlog.get_logger(__name__)

MAX_EVENTS_BYTES = 256 * 1024 * 1024
"""Limit for a file beside the recording: four times what a recorder writes."""


@dataclass(frozen=True, slots=True)
class ComposeRequest:
    source: Path
    target: Path
    layout: str = "grid"
    from_s: int = 0
    to_s: float = math.inf
    preset: int = 0


async def compose(wish: ComposeRequest, on_progress: Callable[[int, int], None]) -> float:
    """Returns the film's length in s. `on_progress` gets the seconds that are done and the total, from a
    thread. Raises EgressError."""
    check(wish)
    file = await asyncio.to_thread(MeetingFile, wish.source)
    file.refuse_without_tracks()
    to_ns = min(file.end_ns, wish.to_s * S)
    if to_ns <= wish.from_s * S:
        raise invalid(f"--from {wish.from_s} s is not before the end, which is at {to_ns / S:.1f} s")
    lines = lines_of(file.tracks)
    changes = await asyncio.to_thread(changes_of, wish.source, file, lines)
    asked = encoding.from_preset(wish.preset)
    video = encoding.video_encoding(asked, VideoCodec.H264, 0, streamed=False)
    moments = MeetingHistory(lines).moments(changes)
    composition = Composition(file, lines, moments, View(wish.layout), video)
    await _encode(wish, composition, video, round(to_ns), on_progress)
    return (to_ns - wish.from_s * S) / S


def check(wish: ComposeRequest) -> None:
    """Raises EgressError for input that cannot be composed, or output that cannot be written."""
    if wish.target.suffix.lower() != ".mp4":
        raise invalid(f'"{wish.target.name}" is not a film to compose: name it .mp4')
    if wish.layout not in layouts.LAYOUTS:
        raise invalid(f'"{wish.layout}" is no layout: {", ".join(layouts.LAYOUTS)}')
    if not wish.source.is_file():
        raise invalid(f'"{wish.source}" is not a file')
    if not wish.target.parent.is_dir():
        raise invalid(f'"{wish.target.parent}" is not a folder')
    if wish.target.exists() and wish.target.samefile(wish.source):
        raise invalid(f'"{wish.target}" is the recording itself: give another name')


def changes_of(source: Path, file: MeetingFile, lines: Sequence[MeetingLine]) -> Sequence[RoomChange]:
    """From the events beside the recording, or else from its packets and its sound."""
    beside = source.with_suffix(".events.jsonl")
    if beside.is_file() and beside.stat().st_size <= MAX_EVENTS_BYTES:
        try:
            found = of_events(_lines(beside))
        except EgressError as error:
            raise invalid(
                f"{beside.name}: {error.text}; repair it, or move it away to compose without it"
            ) from None
        if any(change.what == "track_published" for change in found):
            return found
        _log.warning("the events beside the recording list no tracks: not used", file=beside.name)
    return sorted([*of_packets(lines), *speaking(file)], key=lambda each: each.at_ns)


def _lines(path: Path) -> list[dict[str, object]]:
    """The complete ones."""
    found = []
    with path.open("rb") as lines:
        for line in lines:
            try:
                value = foreign_json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
    return found


async def _encode(
    wish: ComposeRequest,
    composition: Composition,
    video: VideoEncoding,
    to_ns: int,
    on_progress: Callable[[int, int], None],
) -> None:
    loop = asyncio.get_running_loop()
    failures: list[EgressError] = []

    def emit(event: AnyEvent) -> None:
        if isinstance(event, OutputFailed):
            failures.append(EgressError(Code(event.code), event.error, fault=Fault.SERVICE))

    audio = encoding.audio_encoding(encoding.from_preset(wish.preset), AudioCodec.AAC)
    pipeline = EncodePipeline(video, audio, steady=False, on_error=failures.append, hold_s=math.inf)
    storage = StoragePlan(LocalStorage(str(wish.target.parent)))
    output = FileOutput(wish.target.name, Container.MP4, storage, manifest=False)
    with tempfile.TemporaryDirectory(prefix=".compose-", dir=wish.target.parent) as spool:
        recorder = FileRecorder(output, 0, emit=emit, uploader=Uploader(storage))
        recorder.open(Opening(pipeline.formats, 0, spool, {}))
        pipeline.attach([recorder], [])
        pipeline.start()
        all_s = math.ceil(to_ns / S - wish.from_s)

        def pace(done_s: int) -> None:
            """Waits for the disk, so that composed media does not pile up in memory."""
            asyncio.run_coroutine_threadsafe(recorder.written(), loop).result()
            if failures:
                raise failures[0]
            on_progress(done_s, all_s)

        try:
            await asyncio.to_thread(composition.give, pipeline, wish.from_s, to_ns, pace)
        finally:
            composition.stop()
            await pipeline.finish()
        if failures:
            raise failures[0]
        await recorder.finish(to_ns)
