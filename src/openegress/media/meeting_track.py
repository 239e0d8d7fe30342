"""Describes one track of a recording of all tracks, as its file does. Pure."""

from dataclasses import dataclass
from hashlib import sha256

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S

PREROLL_NS = S
"""How much earlier reading begins: a picture may be shown late, and a sound decoder has to settle."""
GAP_NS = 2 * S
"""Pause in a track's packets after which it counts as muted."""
MAX_IDENTITY_CHARS = 256
"""Limit for an identity in events; a LiveKit server accepts nothing longer."""
MAX_TEXT_BYTES = 64
"""Limit for a name or value in the file; anything longer is cut off."""


@dataclass(frozen=True, slots=True)
class MeetingTrack:
    """One track of the file. Times are ns since media time zero."""

    index: int
    """Index of the track's stream."""
    kind: MediaKind
    codec: AudioCodec | VideoCodec
    identity: str
    name: str
    """Name of the track's participant."""
    source: str
    track_name: str
    width: int
    height: int
    spans_ns: tuple[tuple[int, int], ...]
    """When packets came without a gap of GAP_NS; never empty."""
    keys_ns: tuple[int, ...] = ()
    """Times from which pictures can be decoded."""
    track_id: str = ""
    """The SID of its first publication."""

    def is_same_as(self, other: "MeetingTrack") -> bool:
        """Whether both are formats of one publication."""
        return bool(self.track_id) and self.track_id == other.track_id

    def overlaps(self, other: "MeetingTrack") -> bool:
        """Whether both tracks send at the same time."""
        return any(
            begin_ns < other_end_ns and other_begin_ns < end_ns
            for begin_ns, end_ns in self.spans_ns
            for other_begin_ns, other_end_ns in other.spans_ns
        )


def identity_as_stored(identity: str) -> str:
    """Like as_stored(), but different identities stay different."""
    stored = as_stored(identity)
    if len(identity.encode()) <= MAX_TEXT_BYTES:
        return stored
    told = sha256(identity[:MAX_IDENTITY_CHARS].encode()).hexdigest()[:8]
    return stored.encode()[: MAX_TEXT_BYTES - 9].decode(errors="ignore") + "~" + told


def as_stored(value: str) -> str:
    """Returns a name or a tag's value as the file stores it."""
    return value.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").replace("\0", "")
