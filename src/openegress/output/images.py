"""A picture of the recording every few seconds, as JPEG."""

import functools
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace

from openegress.core import naming, plan
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import BackupUsed, ImagesUpdate
from openegress.media import NS
from openegress.output import Emit, Opening
from openegress.output.disk_thread import DiskThread
from openegress.output.failure import FailureReport
from openegress.output.file import CLOSE_TIMEOUT_S
from openegress.output.left_images import Taken, note_taken
from openegress.output.manifest import ImageRecord, Records
from openegress.output.naming import IMAGE_TYPE
from openegress.output.spool import disk_error, folder
from openegress.output.uploads import OrderedUploads, Upload
from openegress.storage.uploader import Stored, Uploader

_MAX_WAITING = 4
"""Pictures that wait to be encoded; with more, the disk is stuck and the next ones are left out."""

_QUALITY = 3
"""FFmpeg's scale of MJPEG: 2 is best, 31 worst; 3 shows no blocks on text."""


class ImageOutput:
    """Takes raw frames, of which it keeps one every interval (media.FrameSink)."""

    def __init__(self, output: plan.ImageOutput, index: int, *, emit: Emit, uploader: Uploader) -> None:
        """Called in the event loop, in which the uploads run."""
        self._plan = output
        self._index = index
        self._emit = emit
        self._failures = FailureReport(index, emit)
        self._uploader = uploader
        self._uploads = OrderedUploads(uploader)
        self._encoder: DiskThread | None = None
        self._waiting = 0
        self._opening: Opening | None = None
        self._folder = Path()
        self._directory = ""
        self._prefix = ""
        self._next_ns = 0
        self._taken = 0
        self._begun = 0
        """Files; the last may be torn."""
        self._count = 0
        self._stored_count = 0
        self._bytes = 0
        self._ended_at_ns = 0
        self._is_over = False
        """Nothing more is written."""
        self._images: list[ImageRecord] = []
        self._backup_told = False

    def open(self, opening: Opening) -> None:
        """Raises EgressError when the disk refuses."""
        self._folder = folder(opening.spool, f"images-{self._index}")
        self._directory = naming.fill(self._plan.directory, opening.name_values)
        self._prefix = naming.fill(self._plan.prefix, opening.name_values)
        self._encoder = DiskThread(f"image output {self._directory}{self._prefix}")
        self._opening = opening
        self._update()

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        """Called for every frame; costs nothing but for the one that is kept, which is scaled here: the frame
        is the source's own."""
        if self._opening is None or self._encoder is None:
            return
        if self._ended_at_ns or pts_ns < self._next_ns or self._failures.error:
            return
        interval_ns = self._plan.interval_s * NS
        self._next_ns = (pts_ns // interval_ns + 1) * interval_ns
        if self._waiting >= _MAX_WAITING:
            return
        self._waiting += 1
        picture = full_range(frame, self._plan.width or frame.width, self._plan.height or frame.height)
        at_ns = self._opening.started_at_ns + pts_ns
        taken = self._encoder.submit(functools.partial(self._take, picture, self._taken, at_ns))
        taken.add_done_callback(self._check)
        self._taken += 1

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        """Pictures make no sound."""

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
        except EgressError as error:
            self._failures.report(error)
        self._update()

    def size_bytes(self) -> int:
        return self._bytes

    def waiting_uploads(self) -> int:
        return self._uploads.pending

    def records(self) -> Records:
        """What the manifest lists, after finish()."""
        return Records(images=tuple(self._images))

    def is_settled(self) -> bool:
        """No for what a stuck disk may still be at."""
        return self._is_over and self._begun == self._stored_count

    def _take(self, picture: av.VideoFrame, index: int, taken_at_ns: int) -> None:
        """In the encoder's thread."""
        local = self._folder / f"{index:05d}{naming.IMAGE_EXTENSION}"
        path = self._directory + naming.image_file(self._prefix, index, taken_at_ns, self._plan.suffix)
        try:
            data = jpeg(picture)
            self._begun += 1
            local.write_bytes(data)
            note_taken(self._folder, Taken(local.name, path, taken_at_ns))
        except FFmpegError as error:
            raise internal(f"the picture could not be encoded: {error}", Phase.RECORDING) from error
        except OSError as error:
            raise disk_error(error, local) from error
        self._bytes += len(data)
        self._count += 1
        then = functools.partial(self._stored, path, taken_at_ns)
        self._uploads.add(Upload(local, path, IMAGE_TYPE, then))
        self._update()

    def _check(self, taken: Future[None]) -> None:
        self._waiting -= 1
        error = taken.exception()
        if isinstance(error, EgressError):
            self._failures.report(error)
        elif error is not None:
            self._failures.report(internal(f"image output: {type(error).__name__}: {error}", Phase.RECORDING))

    async def _stored(self, path: str, taken_at_ns: int, stored: Stored) -> None:
        self._stored_count += 1
        if self._plan.suffix == "none":
            self._images.clear()
        self._images.append(ImageRecord(path, taken_at_ns, stored.location))
        if stored.backup_used and not self._backup_told:
            self._backup_told = True
            self._emit(BackupUsed(self._index))

    def _update(self) -> None:
        assert self._opening is not None
        self._emit(
            ImagesUpdate(
                output=self._index,
                filename_prefix=self._directory + self._prefix,
                image_count=self._count,
                started_at_ns=self._opening.started_at_ns,
                ended_at_ns=self._ended_at_ns,
            )
        )


def full_range(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A frame of ours as jpeg() wants it."""
    return frame.reformat(
        width=width,
        height=height,
        format="yuvj420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU601,  # JFIF's
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )


def jpeg(picture: av.VideoFrame, quality: int = _QUALITY) -> bytes:
    """A full-range BT.601 picture (yuvj420p) as a JPEG file. Raises FFmpegError."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuvj420p"
    context.time_base = Fraction(1, 1)
    picture.pts = 0
    context.options = {"qmin": str(quality), "qmax": str(quality)}
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))
