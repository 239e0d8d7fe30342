"""HLS media playlists (RFC 8216) as text. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import quote

NS = 1_000_000_000

LIVE_SEGMENTS = 5
"""How many segments the live playlist slides over, as upstream's."""

_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    uri: str
    """Relative to the playlist, not yet percent-encoded."""
    duration_ns: int
    started_at_ns: int
    """Unix ns of its first frame."""
    discontinuity: bool = False
    """Its timestamps or its format do not continue those of the segment before."""


class Kind(Enum):
    FULL = "EVENT"
    """Grows, lists everything; turns into VOD when it ends."""
    LIVE = ""
    """Slides over the last LIVE_SEGMENTS."""


def render(
    kind: Kind, segments: Sequence[Segment], *, segment_s: int, map_uri: str = "", ended: bool = False
) -> str:
    """The playlist that lists `segments` (all of them so far, whatever the kind).

    `segment_s` is the asked duration; the target duration is that, or what the longest segment needs
    (RFC 8216, 4.3.3.1). `map_uri` names the initialisation segment of fMP4.
    """
    target_s = max([segment_s, *(rounded_s(s.duration_ns) for s in segments)])
    first = 0 if kind is Kind.FULL else max(0, len(segments) - LIVE_SEGMENTS)
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{7 if map_uri else 3}"]
    if kind is Kind.FULL:
        lines.append(f"#EXT-X-PLAYLIST-TYPE:{'VOD' if ended else 'EVENT'}")
    lines.append(f"#EXT-X-TARGETDURATION:{target_s}")
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
    if dropped := sum(s.discontinuity for s in segments[:first]):
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{dropped}")
    lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    for n, segment in enumerate(segments[first:]):
        # A player that begins at a discontinuity must be told all the same (RFC 8216, 4.3.2.3).
        if segment.discontinuity:
            lines.append("#EXT-X-DISCONTINUITY")
        if map_uri and n == 0:
            lines.append(f'#EXT-X-MAP:URI="{uri(map_uri)}"')
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date_time(segment.started_at_ns)}")
        lines.append(f"#EXTINF:{seconds(segment.duration_ns)},")
        lines.append(uri(segment.uri))
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def rounded_s(duration_ns: int) -> int:
    """To the nearest second, halves up, as players round EXTINF when they compare it with the target."""
    return (duration_ns + NS // 2) // NS


def seconds(duration_ns: int) -> str:
    """Decimal seconds to the microsecond, without an exponent."""
    micros = (duration_ns + 500) // 1000
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def date_time(at_ns: int) -> str:
    """ISO 8601 in UTC with milliseconds, rounded."""
    at_ms = (at_ns + _MILLISECOND_NS // 2) // _MILLISECOND_NS
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def uri(name: str) -> str:
    """A path as a relative URI reference (RFC 3986). A first part with ":" would read as a scheme."""
    return quote(name, safe="/-_.~!$&'()*+,;=@")
