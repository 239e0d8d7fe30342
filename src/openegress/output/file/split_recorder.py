"""A recording in several files, each stored as soon as it is whole."""

import asyncio
from collections.abc import Callable
from functools import partial

from openegress.core import plan
from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError
from openegress.core.events import AnyEvent, OutputFailed
from openegress.core.marker import Marker
from openegress.media import Packet
from openegress.output import Emit, Opening
from openegress.output.file.recorder import FileRecorder
from openegress.output.file.splitter import Begun, Complete, FileSplitter, Step, Written
from openegress.output.manifest import Records
from openegress.storage.uploader import Uploader


class SplitRecorder:
    """Implements Output. Packets come from one thread, all else happens in the event loop."""

    def __init__(
        self,
        output: plan.FileOutput,
        index: int,
        *,
        emit: Emit,
        uploader: Uploader,
        ask_key: Callable[[int], None],
    ) -> None:
        """`ask_key`: as the FileSplitter's."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._uploader = uploader
        self._ask_key = ask_key
        self._loop = asyncio.get_running_loop()
        self._opening: Opening | None = None
        self._splitter: FileSplitter | None = None
        self._parts: list[FileRecorder] = []
        self._storing: list[asyncio.Task[None]] = []
        self._begins_ns = [0]
        """Of each part, on the timeline."""
        self._markers: tuple[Marker, ...] = ()
        self._failed: list[OutputFailed] = []
        """Of parts that were recorded and not stored: told at the end, as the recording goes on."""

    def open(self, opening: Opening) -> None:
        """Raises EgressError when the disk refuses or the container does not take the codecs."""
        assert self._plan.split is not None
        kinds = {form.kind for form in opening.formats}
        self._opening = opening
        self._open_part(opening)
        self._splitter = FileSplitter(
            self._plan.split,
            with_video=MediaKind.VIDEO in kinds,
            with_audio=MediaKind.AUDIO in kinds,
            ask_key=self._ask_key,
        )

    def write(self, packet: Packet) -> None:
        if self._splitter is not None:
            for step in self._splitter.take(packet):
                self._follow(step)

    def mark(self, marker: Marker) -> None:
        """A moment in a part that is stored already is no chapter of it any more."""
        self._markers = (*self._markers, marker)

    async def finish(self, ended_at_ns: int) -> None:
        """Stores the last part, and waits for those before. Raises the first EgressError."""
        if self._splitter is None:
            return
        for step in self._splitter.flush():
            if isinstance(step, Written):
                self._follow(step)
        for part in self._parts[len(self._storing) :]:
            self._store(part, ended_at_ns if part is self._parts[-1] else 0)
        results = await asyncio.gather(*self._storing, return_exceptions=True)
        await self._uploader.close()
        for failed in self._failed:
            self._emit(failed)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def written(self) -> None:
        """Returns when every packet until now has reached its part."""
        for part in list(self._parts):
            await part.written()

    def size_bytes(self) -> int:
        return sum(part.size_bytes() for part in self._parts)

    def waiting_uploads(self) -> int:
        return sum(not task.done() for task in self._storing)

    def records(self) -> Records:
        return Records(files=tuple(file for part in self._parts for file in part.records().files))

    def is_settled(self) -> bool:
        return all(part.is_settled() for part in self._parts)

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
        self._begins_ns.append(begun.at_ns)
        opening = Opening(whole.formats, started_at_ns, whole.spool, whole.name_values)
        try:
            self._open_part(opening)
        except EgressError as error:
            self._emit(OutputFailed(self._index, error.text, error.code.value))

    def _open_part(self, opening: Opening) -> None:
        number = len(self._parts)
        part = FileRecorder(
            self._plan,
            self._index,
            emit=partial(self._tell, number),
            uploader=self._uploader,
            part=number,
        )
        self._parts.append(part)
        part.open(opening)

    def _store_complete(self, number: int) -> None:
        if number == len(self._storing) and number < len(self._parts):
            self._store(self._parts[number], 0)

    def _store(self, part: FileRecorder, ended_at_ns: int) -> None:
        number = len(self._storing)
        begin_ns, *later_ns = self._begins_ns[number:]
        for marker in self._markers:
            if begin_ns <= marker.at_ns and not (later_ns and marker.at_ns >= later_ns[0]):
                part.mark(marker.earlier(begin_ns))
        name = f"part {number}"
        self._storing.append(self._loop.create_task(part.finish(ended_at_ns), name=name))

    def _tell(self, part: int, event: AnyEvent) -> None:
        """From any thread."""
        if isinstance(event, OutputFailed) and part < len(self._parts) - 1:
            self._failed.append(event)
        else:
            self._emit(event)
