"""The spooled tracks of a recording that is composed afterwards. Blocking."""

import shutil
from dataclasses import replace
from pathlib import Path

from openegress.core.codecs import Container
from openegress.core.deferred import FOLDER, TRACKS
from openegress.core.units import S
from openegress.output.file.finalise import finalise
from openegress.output.sidecar.log import read
from openegress.output.sidecar.media_time import MediaTime
from openegress.output.spool_file import disk_error
from openegress.source.room.meeting_history import RoomChange

_MADE = ("file-*", "segments-*", "images-*")
"""Patterns of output files below the folder of their egress."""
_WRITTEN = f"file-0/recording.{Container.MKV.value}"
"""The file of the tracks while it is recorded."""


def _has_bytes(path: Path) -> bool:
    """Whether anything was recorded. The file is created before the first packet, and stays empty if none
    comes."""
    return path.exists() and path.stat().st_size > 0


class SpooledTracks:
    """The tracks of one recording. Methods raise EgressError if the disk refuses."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the egress' own."""
        self._folder = folder
        self._whole = folder / FOLDER / TRACKS

    def take(self) -> Path | None:
        """Moves the file out of the way of composed files, and removes those of an earlier try. Returns None
        if no participant sent anything."""
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

    def changes(self, started_at_ns: int, ended_at_ns: int) -> list[RoomChange]:
        """The changes in the room, in media time, of a recording that began and ended at these times (unix
        ns)."""
        try:
            media_time = replace(MediaTime.of(read(self._folder), ended_at_ns), zero_ns=started_at_ns)
            return [
                RoomChange(round(media_time.s(entry.at_ns) * S), entry.event, entry.fields)
                for entry in read(self._folder)
            ]
        except OSError as error:
            raise disk_error(error, self._folder) from error
