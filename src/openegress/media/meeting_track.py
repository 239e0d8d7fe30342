"""One track of a recording of all tracks, as its file tells of it. Pure."""

from dataclasses import dataclass

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec

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
    """From when to when packets came without a gap of meeting_file.GAP_NS; never empty."""


def as_stored(value: str) -> str:
    """A name, or the value of a tag, as the file has it."""
    return value.encode()[:MOST_TEXT_BYTES].decode(errors="ignore").replace("\0", "")
