"""The interface that each container implements to open a recording of all tracks of a room for clipping."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet

FURTHEST_NS = 2 * S
"""Limit for how much later in the file a packet may lie than others of its time."""
APPEARS_NS = 5 * S
"""Pause of a picture track after which it resumes with a key frame."""


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """A track as its file describes it."""

    number: int
    codec: AudioCodec | VideoCodec | None
    """Codec; None: data."""
    name: str
    tags: tuple[tuple[str, str], ...]
    width: int = 0
    height: int = 0

    @property
    def kind(self) -> MediaKind:
        if self.codec is None:
            return MediaKind.DATA
        return MediaKind.AUDIO if isinstance(self.codec, AudioCodec) else MediaKind.VIDEO


@dataclass(frozen=True, slots=True)
class TrackPacket:
    """A packet of the track with that number; the packet's own `track` is not used."""

    number: int
    packet: Packet


class ClippedTracks(Protocol):
    """A recording of all tracks. Methods raise EgressError if the file cannot be read, and anything the file
    raises."""

    started_at_ns: int
    """Unix ns of media time zero."""
    length_ns: int
    """Length of the readable part."""
    tracks: Mapping[int, StoredTrack]
    """Tracks by number."""

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        """Returns the packets of that span in file order, preceded by those back to the key frame of each
        visible picture track. H264 and H265 have start codes, and parameter sets in each key frame."""

    def close(self) -> None: ...


class WantedKeys:
    """Finds picture tracks that continue at a given time with a dependent picture, and still lack its key
    frame. Pure."""

    def __init__(self, at_ns: int) -> None:
        self._at_ns = at_ns
        self._begun: set[int] = set()
        self.missing: set[int] = set()
        self.until_ns = at_ns + APPEARS_NS + FURTHEST_NS
        """Pieces of the file that begin after this time need not be read."""

    def after(self, blocks: Iterable[tuple[int, int, bool]]) -> None:
        """Takes blocks from the time on, and perhaps some before, in order. `blocks`: (track, ns, whether it
        is a key frame) of pictures."""
        for track, at_ns, is_key in blocks:
            if at_ns <= self._at_ns and is_key:
                self._begun.add(track)
                self.missing.discard(track)
            elif at_ns > self._at_ns + APPEARS_NS:
                return
            elif at_ns > self._at_ns and track not in self._begun:
                self._begun.add(track)
                if not is_key:
                    self.missing.add(track)

    def before(self, blocks: Iterable[tuple[int, int, bool]]) -> None:
        """Takes blocks of an earlier piece of the file."""
        self.missing -= {track for track, at_ns, is_key in blocks if is_key and at_ns <= self._at_ns}


def never_before(times: Sequence[int]) -> list[int]:
    """Returns for each piece of a file, in order, the earliest time in it or any later piece: a late writer's
    packets lie behind those of others."""
    return list(accumulate(reversed(times), min))[::-1]
