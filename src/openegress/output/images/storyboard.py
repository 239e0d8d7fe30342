"""Makes thumbnails of a recording, many in one picture, and a WebVTT file that maps times to parts of
pictures: players show them over their timeline (Media Fragments URI 1.0, 4.2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import av
import numpy as np
from av.error import FFmpegError

from openegress.core import plan
from openegress.core.errors import Phase, internal
from openegress.core.units import S
from openegress.output import Opening
from openegress.output.content_types import IMAGE_TYPE
from openegress.output.images.jpeg import jpeg
from openegress.output.images.pictures import PictureFile
from openegress.output.images.recover import INDEX, Taken, note_taken
from openegress.output.manifest import FileRecord, ImageRecord, Records
from openegress.output.sidecar.webvtt import timestamp
from openegress.output.spool_file import disk_error, folder, replace
from openegress.request import naming
from openegress.request.output_names import image_names
from openegress.storage.uploader import Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

VTT_TYPE = "text/vtt"
_QUALITY = 5
"""Quality on FFmpeg's scale for MJPEG: a thumbnail is seen only briefly."""


@dataclass(frozen=True, slots=True)
class SheetPlace:
    """The place of one thumbnail in a picture."""

    sheet: str
    """File name of its picture."""
    x: int
    y: int
    width: int
    height: int
    begin_ns: int
    """Start in media time."""


def index_of(thumbnails: Sequence[SheetPlace], end_ns: int) -> str:
    """Returns the text of the WebVTT file. Each thumbnail is shown until the next one, and the last until
    `end_ns`."""
    parts = ["WEBVTT\n"]
    ends = [each.begin_ns for each in thumbnails[1:]] + [end_ns]
    for each, until_ns in zip(thumbnails, ends, strict=True):
        span = f"{timestamp(each.begin_ns / S)} --> {timestamp(max(until_ns, each.begin_ns + S // 1000) / S)}"
        place = f"#xywh={each.x},{each.y},{each.width},{each.height}"
        parts.append(f"\n{span}\n{quote(each.sheet)}{place}\n")
    return "".join(parts)


class Storyboard:
    """The storyboard of one output, made in the encoder's thread, and noted as stored in the event loop."""

    def __init__(self, output: plan.ImageOutput, sheet: plan.Sheet, name: str, opening: Opening) -> None:
        """`name`: name of the folder in the spool. Raises EgressError when the disk refuses."""
        self._opening = opening
        self._interval_ns = output.interval_s * S
        self._sheet = sheet
        self._folder = folder(opening.spool, name)
        self._directory, self._prefix = image_names(output, opening.name_values)
        self._thumbnails: list[SheetPlace] = []
        self._planes: tuple[NDArray[np.uint8], ...] = ()
        """Y, U and V of the picture that is being filled."""
        self._current: PictureFile | None = None
        """The file of that picture, as far as it is filled."""
        self._given = 0
        """Number of files that were returned to be stored."""
        self._stored = 0
        self._images: list[ImageRecord] = []
        self._index: FileRecord | None = None
        self.count = 0
        """Number of pictures made, each of which holds thumbnails."""
        self.size_bytes = 0

    @property
    def prefix(self) -> str:
        """Prefix of the pictures' names in the storage."""
        return self._directory + self._prefix

    @property
    def started_at_ns(self) -> int:
        """Unix ns of media time zero."""
        return self._opening.started_at_ns

    @property
    def are_stored(self) -> bool:
        return self._current is None and self._given == self._stored

    def make(self, picture: "av.VideoFrame", index: int, taken_at_ns: int, pts_ns: int) -> list[PictureFile]:
        """Adds one thumbnail; returns what to store when a picture is full. `picture`: from
        jpeg.full_range(). Everything so far is on the disk. Raises EgressError."""
        place = index % (self._sheet.columns * self._sheet.rows)
        x, y = place % self._sheet.columns * picture.width, place // self._sheet.columns * picture.height
        if self._current is None:
            self._begin(picture, taken_at_ns)
        assert self._current is not None
        for plane, source, half in zip(self._planes, _planes(picture), (1, 2, 2), strict=True):
            height, width = source.shape
            plane[y // half : y // half + height, x // half : x // half + width] = source
        sheet = self._current.path[len(self._directory) :].rpartition("/")[2]
        begin_ns = pts_ns // self._interval_ns * self._interval_ns
        self._thumbnails.append(SheetPlace(sheet, x, y, picture.width, picture.height, begin_ns))
        self._write(rows=place // self._sheet.columns + 1, height=picture.height)
        return self._ended() if place + 1 == self._sheet.columns * self._sheet.rows else []

    def finish(self) -> list[PictureFile]:
        """Returns what remains to be stored. Raises EgressError."""
        return self._ended() if self._current is not None else []

    def note_stored(self, made: PictureFile, stored: Stored) -> None:
        self._stored += 1
        if made.content_type == VTT_TYPE:
            self._index = FileRecord(made.path, stored.location, stored.presign_error)
        else:
            self._images.append(ImageRecord(made.path, made.taken_at_ns, stored.location))

    def records(self) -> Records:
        return Records(files=(self._index,) if self._index is not None else (), images=tuple(self._images))

    def _begin(self, picture: "av.VideoFrame", taken_at_ns: int) -> None:
        width, height = self._sheet.columns * picture.width, self._sheet.rows * picture.height
        # Black, where there is no thumbnail yet.
        self._planes = (
            np.zeros((height, width), np.uint8),
            np.full((height // 2, width // 2), 128, np.uint8),
            np.full((height // 2, width // 2), 128, np.uint8),
        )
        local = self._folder / f"{self.count:05d}{naming.IMAGE_EXTENSION}"
        path = self._directory + naming.image_file(self._prefix, self.count, taken_at_ns, "index")
        self._current = PictureFile(local, path, taken_at_ns, IMAGE_TYPE)
        try:
            if not self.count:
                note_taken(self._folder, Taken(INDEX, self._index_path, taken_at_ns))
            note_taken(self._folder, Taken(local.name, path, taken_at_ns))
        except OSError as error:
            raise disk_error(error, local) from error
        self.count += 1

    @property
    def _index_path(self) -> str:
        return f"{self.prefix}.vtt"

    def _write(self, *, rows: int, height: int) -> None:
        assert self._current is not None
        planes = [plane[: rows * height // half] for plane, half in zip(self._planes, (1, 2, 2), strict=True)]
        flat = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, planes[0].shape[1])
        try:
            data = jpeg(av.VideoFrame.from_ndarray(flat, "yuvj420p"), _QUALITY)
        except FFmpegError as error:
            raise internal(f"the storyboard could not be encoded: {error}", Phase.RECORDING) from error
        replace(self._current.local, data)
        replace(self._folder / INDEX, self._index_text())

    def _index_text(self) -> str:
        return index_of(self._thumbnails, self._thumbnails[-1].begin_ns + self._interval_ns)

    def _ended(self) -> list[PictureFile]:
        """Returns the picture that was being filled, and a copy of the index, which keeps growing."""
        assert self._current is not None
        sheet, self._current = self._current, None
        self.size_bytes += sheet.local.stat().st_size
        index = self._folder / f"{self.count:05d}.vtt"
        replace(index, self._index_text())
        self._given += 2
        return [sheet, PictureFile(index, self._index_path, sheet.taken_at_ns, VTT_TYPE)]


def _planes(picture: "av.VideoFrame") -> list["NDArray[np.uint8]"]:
    """Returns Y, U and V without their padding."""
    found = []
    for plane in picture.planes:
        whole = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        found.append(whole[:, : plane.width])
    return found
