"""Records to several files, each stored as soon as it is complete. A recording that another process continued
has several if a file cannot be continued, or is split anyway."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from openegress.core import plan
from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError
from openegress.core.events import AnyEvent, FileUpdate, OutputFailed
from openegress.core.marker import Marker, within
from openegress.media import Packet
from openegress.output import Emit, Opening
from openegress.output.file.left_parts import LeftParts
from openegress.output.file.recorder import FilePart, FileRecorder
from openegress.output.file.splitter import Begun, Complete, FileSplitter, Step, Written
from openegress.output.manifest import Records
from openegress.storage.uploader import Uploader


class SplitRecorder:
    """An Output of several files. Packets come from one thread, all else happens in the event loop."""

    def __init__(
        self,
        output: plan.FileOutput,
        index: int,
        *,
        emit: Emit,
        uploader: Uploader,
        ask_key: Callable[[int], None],
        left: Sequence[FileUpdate] = (),
    ) -> None:
        """`ask_key`: as in FileSplitter. `left`: earlier parts, which are stored as in a recovery."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._uploader = uploader
        self._ask_key = ask_key
        self._loop = asyncio.get_running_loop()
        self._left = LeftParts(output, index, left, emit=emit, uploader=uploader)
        self._opening: Opening | None = None
        self._splitter: FileSplitter | None = None
        self._parts: list[FileRecorder] = []
        self._storing: list[asyncio.Task[None]] = []
        self._storing_left: asyncio.Future[None] = self._loop.create_future()
        self._begins_ns: list[int] = []
        """Start of each part on the timeline."""
        self._markers: tuple[Marker, ...] = ()
        self._failed: list[OutputFailed] = []
        """Failures of parts that were recorded and not stored. They are reported at the end, as the recording
        continues."""

    def open(self, opening: Opening) -> None:
        """Opens the first part. Raises EgressError when the disk refuses or the container does not take the
        codecs."""
        kinds = {form.kind for form in opening.formats}
        self._opening = opening
        self._markers = (*opening.markers, *self._markers)
        self._left.open(opening)
        restart = opening.restart
        started_at_ns = restart.resumed_at_ns if restart is not None else opening.started_at_ns
        self._open_part(started_at_ns, opening.goes_on_at_ns)
        self._storing_left = self._loop.create_task(self._left.store(), name="parts of before")
        self._splitter = FileSplitter(
            self._plan.split or plan.Split(),
            with_video=MediaKind.VIDEO in kinds,
            with_audio=MediaKind.AUDIO in kinds,
            ask_key=self._ask_key,
            begin_ns=opening.goes_on_at_ns,
        )

    def write(self, packet: Packet) -> None:
        if self._splitter is not None:
            for step in self._splitter.take(packet):
                self._follow(step)

    def mark(self, marker: Marker) -> None:
        """Adds a marker. A moment in a part that is already stored does not become a chapter of it."""
        self._markers = (*self._markers, marker)

    async def finish(self, ended_at_ns: int) -> None:
        """Stores the last part, and waits for those before it. Raises the first EgressError."""
        if self._splitter is None:
            return
        for step in self._splitter.flush():
            if isinstance(step, Written):
                self._follow(step)
        for part in self._parts[len(self._storing) :]:
            self._store(part, ended_at_ns if part is self._parts[-1] else 0)
        results = await asyncio.gather(self._storing_left, *self._storing, return_exceptions=True)
        await self._uploader.close()
        for failed in self._failed:
            self._emit(failed)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def written(self) -> None:
        """Returns when every packet so far has reached its part."""
        for part in list(self._parts):
            await part.written()

    def size_bytes(self) -> int:
        return self._left.size_bytes + sum(part.size_bytes() for part in self._parts)

    def waiting_uploads(self) -> int:
        return self._left.waiting + sum(not task.done() for task in self._storing)

    def records(self) -> Records:
        stored = (self._left.records, *(part.records() for part in self._parts))
        return Records(files=tuple(file for each in stored for file in each.files))

    def is_settled(self) -> bool:
        return not self._left.waiting and all(part.is_settled() for part in self._parts)

    def _follow(self, step: Step) -> None:
        match step:
            case Begun():
                self._begin(step)
            case Written(part, packet):
                if part < len(self._parts):
                    self._parts[part].write(packet)
            case Complete(part):
                self._loop.call_soon_threadsafe(self._store_complete, part)

    def _begin(self, begun: Begun) -> None:
        assert self._opening is not None
        whole = self._opening
        started_at_ns = whole.started_at_ns + begun.at_ns + begun.paused_ns
        try:
            self._open_part(started_at_ns, begun.at_ns)
        except EgressError as error:
            self._emit(OutputFailed(self._index, error.text, error.code.value))

    def _open_part(self, started_at_ns: int, begin_ns: int) -> None:
        assert self._opening is not None
        whole, place = self._opening, len(self._parts)
        part = FileRecorder(
            self._plan,
            self._index,
            emit=partial(self._tell, place),
            uploader=self._uploader,
            part=FilePart(self._left.next_part + place, begin_ns),
        )
        self._parts.append(part)
        self._begins_ns.append(begin_ns)
        part.open(Opening(whole.formats, started_at_ns, whole.spool, whole.name_values))

    def _store_complete(self, number: int) -> None:
        if number == len(self._storing) and number < len(self._parts):
            self._store(self._parts[number], 0)

    def _store(self, part: FileRecorder, ended_at_ns: int) -> None:
        number = len(self._storing)
        begin_ns, *later_ns = self._begins_ns[number:]
        for marker in within(self._markers, begin_ns, later_ns[0] if later_ns else None):
            part.mark(marker)
        name = f"part {self._left.next_part + number}"
        self._storing.append(self._loop.create_task(part.finish(ended_at_ns), name=name))

    def _tell(self, place: int, event: AnyEvent) -> None:
        """Emits an event of a part. Called from any thread."""
        if isinstance(event, OutputFailed) and place < len(self._parts) - 1:
            self._failed.append(event)
        else:
            self._emit(event)
