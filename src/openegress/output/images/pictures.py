"""Keeps the pictures of an image output: files in the spool, names in the storage, and what the manifest
lists."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from av.error import FFmpegError

from openegress.core import plan
from openegress.core.errors import Phase, internal
from openegress.output import Opening
from openegress.output.content_types import IMAGE_TYPE
from openegress.output.images.jpeg import jpeg
from openegress.output.images.recover import Taken, note_taken, read_taken
from openegress.output.manifest import ImageRecord, Records
from openegress.output.spool_file import disk_error, folder
from openegress.request import naming
from openegress.request.output_names import image_names
from openegress.storage import backed_up
from openegress.storage.uploader import Stored, Uploader

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class PictureFile:
    local: Path
    path: str
    """Path in the storage."""
    taken_at_ns: int
    """Unix ns of the picture."""
    content_type: str = IMAGE_TYPE


class Pictures:
    """The pictures of one output, made in the encoder's thread, and noted as stored in the event loop."""

    def __init__(self, output: plan.ImageOutput, name: str, opening: Opening) -> None:
        """`name`: name of the folder in the spool. Raises EgressError when the disk refuses."""
        self._opening = opening
        self._folder = folder(opening.spool, name)
        self._directory, self._prefix = image_names(output, opening.name_values)
        self._suffix = output.suffix
        self._begun = 0
        """Number of files that were started; the last may be torn."""
        self._stored = 0
        self._records: list[ImageRecord] = []
        self._before: list[PictureFile] = []
        """Pictures of a process that died."""
        self.count = 0
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
        """Whether all pictures that were started are stored."""
        return self._begun == self._stored

    def go_on(self) -> list[PictureFile]:
        """Returns pictures that another process has taken, and that a storage may not have. Raises
        EgressError."""
        try:
            taken = [(self._folder / each.local, each) for each in read_taken(self._folder)]
            made = [PictureFile(local, each.path, each.taken_at_ns) for local, each in taken]
            waiting = [each for each in made if each.local.exists()]
        except (OSError, msgspec.DecodeError) as error:
            raise internal(f"the pictures in {self._folder} cannot be continued: {error}") from error
        self._before = made
        self._begun = self.count = len(taken)
        self._stored = len(taken) - len(waiting)
        return waiting

    async def locate_before(self, uploader: Uploader) -> None:
        """Finds where an earlier process has stored pictures. Raises EgressError."""
        known = {record.filename for record in self._records}
        on_backup = await asyncio.to_thread(backed_up.names, self._folder)
        located = []
        for each in self._before:
            if each.path not in known and not each.local.exists():
                stored = await uploader.locate(each.path, on_backup=each.local.name in on_backup)
                located.append(ImageRecord(each.path, each.taken_at_ns, stored.location))
        self._records[:0] = located
        self._before = []

    def make(self, picture: "av.VideoFrame", index: int, taken_at_ns: int, pts_ns: int) -> list[PictureFile]:
        """Makes a picture. Returns what to store. `picture`: from jpeg.full_range(). Raises EgressError."""
        local = self._folder / f"{index:05d}{naming.IMAGE_EXTENSION}"
        path = self._directory + naming.image_file(self._prefix, index, taken_at_ns, self._suffix)
        try:
            data = jpeg(picture)
            self._begun += 1
            local.write_bytes(data)
            note_taken(self._folder, Taken(local.name, path, taken_at_ns))
        except FFmpegError as error:
            raise internal(f"the picture could not be encoded: {error}", Phase.RECORDING) from error
        except OSError as error:
            raise disk_error(error, local) from error
        self.size_bytes += len(data)
        self.count += 1
        return [PictureFile(local, path, taken_at_ns)]

    def finish(self) -> list[PictureFile]:
        """Returns nothing, as each picture was returned when it was made."""
        return []

    def note_stored(self, made: PictureFile, stored: Stored) -> None:
        self._stored += 1
        if self._suffix == "none":
            self._records.clear()
        self._records.append(ImageRecord(made.path, made.taken_at_ns, stored.location))

    def records(self) -> Records:
        return Records(images=tuple(self._records))
