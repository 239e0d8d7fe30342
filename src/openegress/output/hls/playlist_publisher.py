"""Stores the playlists of the stored segments."""

import functools
from pathlib import Path

from openegress.core.marker import Marker
from openegress.output.content_types import PLAYLIST_TYPE
from openegress.output.disk_thread import ANSWER_TIMEOUT_S, DiskThread
from openegress.output.failure import BackupReport
from openegress.output.hls import playlist
from openegress.output.spool_file import replace
from openegress.request.naming import SegmentNames
from openegress.storage.uploader import Uploader


class PlaylistPublisher:
    """Stores playlists. Call it in the event loop. Nothing is added while a publication reads the listing in
    its thread."""

    def __init__(
        self,
        what: str,
        folder: Path,
        names: SegmentNames,
        limits: playlist.PlaylistLimits,
        uploader: Uploader,
        backup: BackupReport,
    ) -> None:
        """`what`: name for the thread and for errors. `folder`: the output's folder in the spool."""
        self._folder = folder
        self._names = names
        self._uploader = uploader
        self._backup = backup
        self._listing = playlist.Listing(limits)
        self._disk = DiskThread(what)
        self._locations: dict[str, str] = {}
        self.is_complete = False
        """Whether the playlist was published with the end mark."""

    def add(self, entry: playlist.Segment) -> None:
        """Adds a segment that is stored, and may be listed."""
        self._listing.add(entry)

    def mark(self, marker: Marker) -> None:
        """Adds a marker, which appears from the next publication on."""
        self._listing.mark(marker)

    def location(self, name: str) -> str:
        """The URL of the playlist with that name; "" if there is none, or none yet."""
        return self._locations.get(name, "")

    async def publish(self, *, ended: bool) -> None:
        """Stores the playlists. Raises EgressError when the disk does not answer, or the storage refuses."""
        kinds = [
            (self._names.playlist, playlist.PlaylistKind.FULL),
            (self._names.live_playlist, playlist.PlaylistKind.LIVE),
        ]
        for name, kind in kinds:
            if not name:
                continue
            local = self._folder / f"stored-{kind.name.lower()}.m3u8"
            # A playlist of days has megabytes, too much for the event loop that receives media.
            write = functools.partial(_write, local, self._listing, kind, ended=ended)
            await self._disk.result(write, ANSWER_TIMEOUT_S)
            stored = await self._uploader.put(
                local, self._names.directory + name, PLAYLIST_TYPE, delete_local=ended
            )
            self._locations[name] = stored.location
            self._backup.note(stored)
        self.is_complete = ended

    def close(self) -> None:
        self._disk.close()


def _write(local: Path, listing: playlist.Listing, kind: playlist.PlaylistKind, *, ended: bool) -> None:
    replace(local, listing.text(kind, ended=ended))
