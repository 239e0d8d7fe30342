"""The pictures of an image output: files in the spool, names in the storage, and what the manifest lists."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from av.error import FFmpegError

from openegress.core import plan
from openegress.core.errors import Phase, internal
from openegress.output import Opening
from openegress.output.images.jpeg import jpeg
from openegress.output.images.recover import Taken, note_taken
from openegress.output.manifest import ImageRecord, Records
from openegress.output.naming import IMAGE_TYPE, image_names
from openegress.output.spool_file import disk_error, folder
from openegress.request import naming
from openegress.storage.uploader import Stored

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class PictureFile:
    local: Path
    path: str
    """In the storage."""
    taken_at_ns: int
    """Unix ns."""
    content_type: str = IMAGE_TYPE


class Pictures:
    """Made in the encoder's thread, noted as stored in the event loop."""

    def __init__(self, output: plan.ImageOutput, name: str, opening: Opening) -> None:
        """`name`: of the folder in the spool. Raises EgressError when the disk refuses."""
        self._opening = opening
        self._folder = folder(opening.spool, name)
        self._directory, self._prefix = image_names(output, opening.name_values)
        self._suffix = output.suffix
        self._begun = 0
        """Files; the last may be torn."""
        self._stored = 0
        self._records: list[ImageRecord] = []
        self.count = 0
        self.size_bytes = 0

    @property
    def prefix(self) -> str:
        """Of their names in the storage."""
        return self._directory + self._prefix

    @property
    def started_at_ns(self) -> int:
        """Unix ns of media time zero."""
        return self._opening.started_at_ns

    @property
    def are_stored(self) -> bool:
        """All that were begun."""
        return self._begun == self._stored

    def make(self, picture: "av.VideoFrame", index: int, taken_at_ns: int, pts_ns: int) -> list[PictureFile]:
        """What is to be stored. `picture`: from jpeg.full_range(). Raises EgressError."""
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
        """Each was given when it was made."""
        return []

    def note_stored(self, made: PictureFile, stored: Stored) -> None:
        self._stored += 1
        if self._suffix == "none":
            self._records.clear()
        self._records.append(ImageRecord(made.path, made.taken_at_ns, stored.location))

    def records(self) -> Records:
        return Records(images=tuple(self._records))
