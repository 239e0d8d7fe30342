"""A picture of the recording every few seconds, as JPEG."""

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
from openegress.output.manifest import Records
from openegress.output.naming import IMAGE_TYPE
from openegress.output.uploads import OrderedUploads, Upload
from openegress.storage.uploader import Stored, Uploader

_MAX_WAITING = 4
"""Pictures that wait to be encoded; with more, the disk is stuck and the next ones are left out."""


class ImageRecorder:
    """Takes raw frames, of which it keeps one every interval (media.FrameSink)."""

    def __init__(self, output: plan.ImageOutput, index: int, *, emit: Emit, uploader: Uploader) -> None:
        """Called in the event loop, in which the uploads run."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._failures = FailureReport(index, emit)
        self._backup = BackupReport(index, emit)
        self._uploader = uploader
        self._uploads = OrderedUploads(uploader)
        self._pictures: Pictures | None = None
        self._encoder: DiskThread | None = None
        self._waiting = 0
        """Pictures that the encoder has yet to make."""
        self._next_ns = 0
        self._paused_ns = 0
        self._taken = 0
        self._ended_at_ns = 0
        self._is_over = False
        """The encoder has done all it was given."""

    def open(self, opening: Opening) -> None:
        """Raises EgressError when the disk refuses."""
        self._pictures = Pictures(self._plan, f"images-{self._index}", opening)
        self._encoder = DiskThread(f"image output {self._pictures.prefix}")
        if opening.goes_on_at_ns:
            for made in self._pictures.go_on():
                self._upload(made)
            self._taken = self._pictures.count
            interval_ns = self._plan.interval_s * S
            self._next_ns = -(-opening.goes_on_at_ns // interval_ns) * interval_ns
        self._update()

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        """Called for every frame; costs nothing but for the one that is kept, which is scaled here: the frame
        is the source's own."""
        if self._pictures is None or self._encoder is None:
            return
        if self._ended_at_ns or pts_ns < self._next_ns or self._failures.error:
            return
        interval_ns = self._plan.interval_s * S
        self._next_ns = (pts_ns // interval_ns + 1) * interval_ns
        if self._waiting >= _MAX_WAITING:
            return
        self._waiting += 1
        picture = full_range(frame, self._plan.width or frame.width, self._plan.height or frame.height)
        at_ns = self._pictures.started_at_ns + pts_ns + self._paused_ns
        taken = self._encoder.submit(functools.partial(self._make, picture, self._taken, at_ns))
        taken.add_done_callback(self._check)
        self._taken += 1

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Pictures make no sound."""

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._paused_ns = paused_ns

    async def finish(self, ended_at_ns: int) -> None:
        """Encodes and stores what waits. Raises EgressError."""
        if self._encoder is None:
            return
        self._ended_at_ns = ended_at_ns
        await self._store(self._encoder)
        await self._uploader.close()
        self._failures.raise_if_any()

    async def _store(self, encoder: DiskThread) -> None:
        try:
            await encoder.finish(CLOSE_TIMEOUT_S)
        except EgressError as error:
            self._failures.report(error)
            # They are read from the same disk; and where it hangs, so would the journal at an update.
            await self._uploads.abandon()
            return
        self._is_over = True
        try:
            await self._uploads.finish()
            if self._pictures is not None:
                await self._pictures.locate_before(self._uploader)
        except EgressError as error:
            self._failures.report(error)
        self._update()

    def size_bytes(self) -> int:
        return self._pictures.size_bytes if self._pictures else 0

    def waiting_uploads(self) -> int:
        return self._uploads.pending

    def records(self) -> Records:
        """What the manifest lists, after finish()."""
        return Records(images=self._pictures.records() if self._pictures else ())

    def is_settled(self) -> bool:
        """No for what a stuck disk may still be at."""
        return self._is_over and self._pictures is not None and self._pictures.are_stored

    def _make(self, picture: av.VideoFrame, index: int, taken_at_ns: int) -> None:
        """In the encoder's thread."""
        assert self._pictures is not None
        made = self._pictures.make(picture, index, taken_at_ns)
        self._upload(made)
        self._update()

    def _upload(self, made: PictureFile) -> None:
        self._uploads.add(Upload(made.local, made.path, IMAGE_TYPE, functools.partial(self._stored, made)))

    def _check(self, taken: Future[None]) -> None:
        self._waiting -= 1
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
