"""One track of a recording of all tracks, as its file describes it. Pure."""

from dataclasses import dataclass
from hashlib import sha256

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S

PREROLL_NS = S
"""A picture may be shown late, and a sound decoder has to settle."""
GAP_NS = 2 * S
"""A track that sends nothing for this long counts as muted."""
MAX_IDENTITY_CHARS = 256
"""Events carry this much of an identity; a LiveKit server accepts nothing longer."""
MAX_TEXT_BYTES = 64
"""Of a name or value in the file; anything longer is cut off."""


@dataclass(frozen=True, slots=True)
class MeetingTrack:
    """One track of the file. Times are ns since media time zero."""

    index: int
    """Of the track's stream."""
    kind: MediaKind
    codec: AudioCodec | VideoCodec
    identity: str
    name: str
    """Of the track's participant."""
    source: str
    track_name: str
    width: int
    height: int
    spans_ns: tuple[tuple[int, int], ...]
    """When packets came without a gap of GAP_NS; never empty."""
    keys_ns: tuple[int, ...] = ()
    """Where pictures can be decoded from."""

    def begin_for(self, at_ns: int) -> int:
        """Where decoding must begin to know the track at `at_ns`."""
        if self.kind is MediaKind.AUDIO:
            return at_ns - PREROLL_NS
        before = [key_ns for key_ns in self.keys_ns if key_ns <= at_ns - PREROLL_NS]
        return before[-1] if before else 0


def identity_as_stored(identity: str) -> str:
    """As as_stored(), but different identities stay different."""
    stored = as_stored(identity)
    if len(identity.encode()) <= MAX_TEXT_BYTES:
        return stored
    told = sha256(identity[:MAX_IDENTITY_CHARS].encode()).hexdigest()[:8]
    return stored.encode()[: MAX_TEXT_BYTES - 9].decode(errors="ignore") + "~" + told


def as_stored(value: str) -> str:
    """A name or a tag's value, as the file stores it."""
    return value.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").replace("\0", "")
