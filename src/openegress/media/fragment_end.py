"""Finds where a fragmented file ends, in bytes and in time, for the process that continues it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media.fragment_index import read
from openegress.media.mp4 import Mp4Error


@dataclass(frozen=True, slots=True)
class TrackEnd:
    kind: MediaKind
    timescale: int
    last_dts: int
    """Decode time of the last sample; -1: the track has no sample."""
    end_pts: int
    """End of presentation in the track's time scale, counted from an encoder's first sample."""

    @property
    def end_ns(self) -> int:
        """The time at which the next encoder may begin; it puts its first sample slightly earlier."""
        return -(-self.end_pts * S // self.timescale)


@dataclass(frozen=True, slots=True)
class FragmentsEnd:
    size_bytes: int
    """Size up to the last whole fragment."""
    fragments: int
    tracks: Mapping[int, TrackEnd]
    """All tracks of the header, by number."""
    entries: Mapping[int, bytes]
    """The current sample entry, by track number."""

    @property
    def end_ns(self) -> int:
        return max(track.end_ns for track in self.tracks.values())


def end_of(path: Path) -> FragmentsEnd | None:
    """Reads the end of a file; None if there is no file, or one without media. Raises OSError. Blocking;
    takes as long as reading the file's index."""
    try:
        with path.open("rb") as file:
            index = read(file)
    except (FileNotFoundError, Mp4Error):
        return None
    tracks = {
        track.number: TrackEnd(
            track.kind, track.timescale, track.last_dts if track.sizes else -1, track.end_pts
        )
        for track in index.every
    }
    entries = {track.number: track.entry for track in index.every}
    return FragmentsEnd(index.end, len(index.media), tracks, entries)
