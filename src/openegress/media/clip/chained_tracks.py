"""A recording of all tracks of a room in several consecutive files, opened for clipping as one."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from openegress.core.codecs import VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip.clipped_tracks import ClippedTracks, StoredTrack, TrackPacket
from openegress.media.passthrough import parameter_sets

_TRACK_ID = "TRACK_ID"
_Place = tuple[int, int]
"""(file, number of a track in it)."""


class ChainedTracks:
    """A ClippedTracks of several files. A track continues in the next file if it is of the same source, and
    its media needs no other parameters outside it."""

    def __init__(self, files: Sequence[tuple[ClippedTracks, int]], begin_ns: int) -> None:
        """`files`: each with the time on the recording's timeline at which it begins, in order. `begin_ns`:
        where the clip begins."""
        self._files = files
        ends = [at_ns for _, at_ns in files[1:]]
        self._ends = [*ends, files[-1][1] + files[-1][0].length_ns]
        self.length_ns = self._ends[-1]
        within = next((n for n, end_ns in enumerate(ends) if begin_ns < end_ns), len(files) - 1)
        first, at_ns = files[within]
        self.started_at_ns = first.started_at_ns - at_ns
        """Unix ns of media time zero, by the clock of the file in which the clip begins."""
        self._tracks: dict[int, StoredTrack] = {}
        self.tracks: Mapping[int, StoredTrack] = self._tracks
        self._numbers: dict[_Place, int] = {}
        self._parameters: dict[int, bytes] = {}
        """The parameters of each track."""

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        for file, (tracks, at_ns) in enumerate(self._files):
            if at_ns >= end_ns:
                return
            is_last = file + 1 == len(self._files)
            if begin_ns >= self._ends[file] and not is_last:
                continue
            begun: set[int] = set()
            for each in tracks.packets(max(0, begin_ns - at_ns), end_ns - at_ns):
                stored, packet = tracks.tracks[each.number], each.packet.shifted(Fraction(at_ns, S))
                if not is_last and packet.pts_ns >= self._ends[file]:
                    continue
                if isinstance(stored.codec, VideoCodec) and each.number not in begun:
                    if not packet.is_key:
                        continue
                    begun.add(each.number)
                yield TrackPacket(self._number(file, stored, packet), packet)

    def close(self) -> None:
        for tracks, _ in self._files:
            tracks.close()

    def _number(self, file: int, stored: StoredTrack, packet: Packet) -> int:
        """Returns the track's number in the whole recording. `packet`: the first one of a picture track is a
        key frame."""
        place = file, stored.number
        if place not in self._numbers:
            codec = stored.codec
            parameters = parameter_sets(codec, packet.data) if isinstance(codec, VideoCodec) else b""
            self._numbers[place] = self._continued(file, stored, parameters) or len(self._tracks) + 1
            self._tracks.setdefault(self._numbers[place], stored)
            self._parameters.setdefault(self._numbers[place], parameters)
        return self._numbers[place]

    def _continued(self, file: int, stored: StoredTrack, parameters: bytes) -> int | None:
        """Returns the number of the track of an earlier file that this track continues."""
        here = {number for (other, _), number in self._numbers.items() if other == file}
        found = [
            number
            for number, each in self._tracks.items()
            if number not in here
            and (each.codec, each.name, _source(each)) == (stored.codec, stored.name, _source(stored))
            and self._parameters[number] == parameters
        ]
        same = [number for number in found if _id(self._tracks[number]) == _id(stored)]
        return next(iter((*same, *found)), None)


def _source(track: StoredTrack) -> list[tuple[str, str]]:
    return [tag for tag in track.tags if tag[0] != _TRACK_ID]


def _id(track: StoredTrack) -> str:
    return dict(track.tags).get(_TRACK_ID, "")
