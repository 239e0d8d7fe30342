"""The tracks of a recording that is composed after it, in the spool. Blocking."""

import shutil
from pathlib import Path

from openegress.core.codecs import Container
from openegress.core.deferred import FOLDER, TRACKS
from openegress.output.file.finalise import finalise
from openegress.output.sidecar.log import read
from openegress.output.spool_file import disk_error
from openegress.source.room.meeting_history import RoomChange

_MADE = ("file-*", "segments-*", "images-*")
"""What outputs have below the folder of their egress."""
_WRITTEN = f"file-0/recording.{Container.MKV.value}"
"""While it is recorded."""


def _has_bytes(path: Path) -> bool:
    """A file is made ahead of the first packet, and has nothing if none came."""
    return path.exists() and path.stat().st_size > 0


class SpooledTracks:
    """Methods raise EgressError when the disk refuses."""

    def __init__(self, folder: Path) -> None:
        """`folder`: of the egress."""
        self._folder = folder
        self._whole = folder / FOLDER / TRACKS

    def take(self) -> Path | None:
        """The file, out of the way of what is composed; what an earlier try has composed is removed. None:
        nobody sent anything."""
        try:
            written = self._folder / _WRITTEN
            if not self._whole.exists() and _has_bytes(written):
                self._whole.parent.mkdir(exist_ok=True)
                finalise(written, Container.MKV)
                written.replace(self._whole)
            for pattern in _MADE:
                for made in self._folder.glob(pattern):
                    shutil.rmtree(made)
        except OSError as error:
            raise disk_error(error, self._folder) from error
        return self._whole if _has_bytes(self._whole) else None

    def changes(self, zero_ns: int) -> list[RoomChange]:
        """What happened in the room; `zero_ns` is media time zero in unix ns."""
        try:
            return [
                RoomChange(max(0, entry.at_ns - zero_ns), entry.event, entry.fields)
                for entry in read(self._folder)
            ]
        except OSError as error:
            raise disk_error(error, self._folder) from error
