"""One track of a recording of all tracks, as its file describes it. Pure."""

from dataclasses import dataclass
from hashlib import sha256

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S

PREROLL_NS = S
"""A picture may be shown late, and a decoder of sound has to settle."""
GAP_NS = 2 * S
"""A track that sends nothing for so long is muted, as far as its packets tell."""
MOST_IDENTITY_CHARS = 256
"""What events tell of an identity; a LiveKit server takes no longer one."""
MOST_TEXT_BYTES = 64
"""Of a name or a value in the file; the rest of a longer one is cut off."""


@dataclass(frozen=True, slots=True)
class MeetingTrack:
    """One track of the file. Times are ns since media time zero."""

    index: int
    """Of its stream."""
    kind: MediaKind
    codec: AudioCodec | VideoCodec
    identity: str
    name: str
    """Of its participant."""
    source: str
    track_name: str
    width: int
    height: int
    spans_ns: tuple[tuple[int, int], ...]
    """From when to when packets came without a gap of GAP_NS; never empty."""
    keys_ns: tuple[int, ...] = ()
    """Of a picture: where it can be decoded from."""

    def begin_for(self, at_ns: int) -> int:
        """From where it is decoded to know it at `at_ns`."""
        if self.kind is MediaKind.AUDIO:
            return at_ns - PREROLL_NS
        before = [key_ns for key_ns in self.keys_ns if key_ns <= at_ns - PREROLL_NS]
        return before[-1] if before else 0


def identity_as_stored(identity: str) -> str:
    """As as_stored(), and no two have the same."""
    stored = as_stored(identity)
    if len(identity.encode()) <= MOST_TEXT_BYTES:
        return stored
    told = sha256(identity[:MOST_IDENTITY_CHARS].encode()).hexdigest()[:8]
    return stored.encode()[: MOST_TEXT_BYTES - 9].decode(errors="ignore") + "~" + told


def as_stored(value: str) -> str:
    """A name, or the value of a tag, as the file has it."""
    return value.encode()[:MOST_TEXT_BYTES].decode(errors="ignore").replace("\0", "")
