"""Records a picture every few seconds, as JPEG."""

import asyncio
import functools
from concurrent.futures import Future

import av

from openegress.core import plan
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import ImagesUpdate
from openegress.core.units import S
from openegress.output import Emit, Opening
from openegress.output.disk_thread import CLOSE_TIMEOUT_S, DiskThread
from openegress.output.failure import BackupReport, FailureReport
from openegress.output.images.jpeg import full_range
from openegress.output.images.pictures import PictureFile, Pictures
from openegress.output.images.storyboard import Storyboard
from openegress.output.manifest import Records
from openegress.output.uploads import OrderedUploads, Upload
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Stored, Uploader

_MAX_WAITING = 4
"""Limit for pictures that wait to be encoded; with more, the disk is stuck and further ones are dropped."""


class ImageRecorder:
    """Takes raw frames, and keeps one for every interval (media.FrameSink)."""

    def __init__(self, output: plan.ImageOutput, index: int, *, emit: Emit, uploader: Uploader) -> None:
        """Call it in the event loop, in which the uploads run."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._failures = FailureReport(index, emit)
        self._backup = BackupReport(index, emit)
        self._uploader = uploader
        self._uploads = OrderedUploads(uploader)
        self._pictures: Pictures | Storyboard | None = None
        self._encoder: DiskThread | None = None
        self._waiting = 0
        """Number of pictures that wait for the encoder."""
        self._next_ns = 0
        self._paused_ns = 0
        self._taken = 0
        self._ended_at_ns = 0
        self._is_over = False
        """Whether the encoder has finished all pictures."""

    def open(self, opening: Opening) -> None:
        """Starts recording. Raises EgressError when the disk refuses."""
        name, sheet = f"images-{self._index}", self._plan.sheet
        self._pictures = (
            Pictures(self._plan, name, opening)
            if sheet is None
            else Storyboard(self._plan, sheet, name, opening)
        )
        self._encoder = DiskThread(f"image output {self._pictures.prefix}")
        if opening.goes_on_at_ns and isinstance(self._pictures, Pictures):
            self._upload(self._pictures.go_on(), opening.late)
            self._taken = self._pictures.count
            interval_ns = self._plan.interval_s * S
            self._next_ns = -(-opening.goes_on_at_ns // interval_ns) * interval_ns
        self._update()

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        """Keeps a picture if it is due. This costs nothing except for the one that is kept, which is scaled
        here, as the frame belongs to the source."""
        if self._pictures is None or self._encoder is None:
            return
        if self._ended_at_ns or pts_ns < self._next_ns or self._failures.error:
            return
        interval_ns = self._plan.interval_s * S
        self._next_ns = (pts_ns // interval_ns + 1) * interval_ns
        if self._waiting >= _MAX_WAITING:
            return
        self._waiting += 1
        picture = full_range(frame, *self._size(frame))
        at_ns = self._pictures.started_at_ns + pts_ns + self._paused_ns
        taken = self._encoder.submit(functools.partial(self._make, picture, self._taken, at_ns, pts_ns))
        taken.add_done_callback(self._check)
        self._taken += 1

    def _size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Returns the picture's size. The height of a thumbnail follows from the width."""
        width, height = self._plan.width, self._plan.height
        if self._plan.sheet is not None:
            return width, max(2, round(width * frame.height / frame.width / 2) * 2)
        return width or frame.width, height or frame.height

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Ignores sound."""

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._paused_ns = paused_ns

    async def finish(self, ended_at_ns: int) -> None:
        """Encodes and stores the pictures that wait. Raises EgressError."""
        if self._encoder is None:
            return
        self._ended_at_ns = ended_at_ns
        await self._store(self._encoder)
        await self._uploader.close()
        self._failures.raise_if_any()

    async def _store(self, encoder: DiskThread) -> None:
        try:
            encoder.submit(self._make_rest).add_done_callback(self._check_rest)
            await encoder.finish(CLOSE_TIMEOUT_S)
        except EgressError as error:
            self._failures.report(error)
            # They would be read from the same disk; if it hangs, so would updates of the journal.
            await self._uploads.abandon()
            return
        self._is_over = True
        try:
            await self._uploads.finish()
            if isinstance(self._pictures, Pictures):
                await self._pictures.locate_before(self._uploader)
        except EgressError as error:
            self._failures.report(error)
        self._update()

    async def written(self) -> None:
        """Returns when every picture so far is encoded."""
        if self._encoder is not None:
            await asyncio.wrap_future(self._encoder.submit(lambda: None))

    def size_bytes(self) -> int:
        return self._pictures.size_bytes if self._pictures else 0

    def waiting_uploads(self) -> int:
        return self._uploads.pending

    def records(self) -> Records:
        """Returns what the manifest lists; call it after finish()."""
        return self._pictures.records() if self._pictures else Records()

    def is_settled(self) -> bool:
        """Whether all pictures are stored. False if a stuck disk may still be writing one."""
        return self._is_over and self._pictures is not None and self._pictures.are_stored

    def _make(self, picture: av.VideoFrame, index: int, taken_at_ns: int, pts_ns: int) -> None:
        """Makes a picture. Called in the encoder's thread."""
        assert self._pictures is not None
        self._upload(self._pictures.make(picture, index, taken_at_ns, pts_ns))
        self._update()

    def _make_rest(self) -> None:
        """Makes what remains after all pictures. Called in the encoder's thread. A failed one stays in the
        spool."""
        assert self._pictures is not None
        if not self._failures.error:
            self._upload(self._pictures.finish())

    def _upload(self, made: list[PictureFile], late: LateUploads | None = None) -> None:
        for each in made:
            stored = functools.partial(self._stored, each)
            self._uploads.add(Upload(each.local, each.path, each.content_type, stored, late=late))

    def _check(self, taken: Future[None]) -> None:
        self._waiting -= 1
        self._check_rest(taken)

    def _check_rest(self, taken: Future[None]) -> None:
        error = taken.exception()
        if isinstance(error, EgressError):
            self._failures.report(error)
        elif error is not None:
            self._failures.report(internal(f"image output: {type(error).__name__}: {error}", Phase.RECORDING))

    async def _stored(self, made: PictureFile, stored: Stored) -> None:
        assert self._pictures is not None
        self._pictures.note_stored(made, stored)
        self._backup.note(stored)

    def _update(self) -> None:
        assert self._pictures is not None
        self._emit(
            ImagesUpdate(
                output=self._index,
                filename_prefix=self._pictures.prefix,
                image_count=self._pictures.count,
                started_at_ns=self._pictures.started_at_ns,
                ended_at_ns=self._ended_at_ns,
            )
        )
