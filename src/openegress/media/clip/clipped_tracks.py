"""A recording of all tracks of a room, opened to cut a clip from it: what is asked of each container."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet

FURTHEST_NS = 2 * S
"""So much later than others of its time a packet may lie in the file."""
APPEARS_NS = 5 * S
"""A track of pictures that sends nothing for so long begins with a key frame when it goes on."""


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """A track as its file tells of it."""

    number: int
    codec: AudioCodec | VideoCodec | None
    """None: data."""
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
    """Of the track with that number; what it says of its own track is not used."""

    number: int
    packet: Packet


class ClippedTracks(Protocol):
    """Methods raise EgressError for what cannot be read, and whatever the file raises."""

    started_at_ns: int
    """Unix ns of media time zero."""
    length_ns: int
    """As far as it is whole."""
    tracks: Mapping[int, StoredTrack]
    """By number."""

    def packets(self, begin_ns: int, end_ns: int) -> Iterator[TrackPacket]:
        """In the order of the file, those of that span; and before them as many as it takes for each track
        of pictures on show to have a key frame. H264 and H265 with start codes, and with their parameter sets
        in each key frame."""

    def close(self) -> None: ...


class WantedKeys:
    """Which tracks of pictures go on at a time with a picture that needs others, and lack the key frame that
    these need. Pure."""

    def __init__(self, at_ns: int) -> None:
        self._at_ns = at_ns
        self._begun: set[int] = set()
        self.missing: set[int] = set()
        self.until_ns = at_ns + APPEARS_NS + FURTHEST_NS
        """Pieces of the file that begin later tell nothing, should there be no picture in them."""

    def after(self, blocks: Iterable[tuple[int, int, bool]]) -> None:
        """`blocks`: (track, ns, whether it is a key frame) of pictures, in order; from the time on, and
        perhaps some before."""
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
        """Of an earlier piece of the file."""
        self.missing -= {track for track, at_ns, is_key in blocks if is_key and at_ns <= self._at_ns}


def never_before(times: Sequence[int]) -> list[int]:
    """Of pieces of a file, in their order: for each the time that neither it nor any behind it begins before.
    Who is late writes behind who is not."""
    return list(accumulate(reversed(times), min))[::-1]
