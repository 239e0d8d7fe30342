"""Writes HLS media playlists (RFC 8216) as text. Pure."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import quote

from openegress.core.marker import Marker
from openegress.core.units import S

LIVE_SEGMENTS = 5
"""Number of segments in the live playlist, as in upstream."""

_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    uri: str
    """URI relative to the playlist, not yet percent-encoded."""
    duration_ns: int
    started_at_ns: int
    """Unix ns of its first frame."""
    discontinuity: bool = False
    """Whether its timestamps or its format do not continue those of the previous segment."""
    init: str = ""
    """The initialisation segment it needs, written like `uri`; empty: none."""

    @property
    def ended_at_ns(self) -> int:
        return self.started_at_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class PlaylistLimits:
    """What a playlist states about future segments. It must hold from the first to the last version of a
    playlist (RFC 8216, 4.3.3.1 and 6.2.1), so it is chosen before any of them is known."""

    target_s: int
    """Limit that no segment's duration exceeds when rounded."""
    limit_ns: int
    """The length at which a segment is ended to meet the target."""
    independent: bool
    """Whether every segment begins with a key frame."""

    @classmethod
    def of(cls, segment_s: int, *, passed_through: bool) -> "PlaylistLimits":
        """Returns the limits for that duration. Our encoders give a key frame at every multiple of
        `segment_s`; half a second, less a packet, is what rounding leaves for a source that stands still just
        then.

        A track that is passed through has key frames when its publisher sends them. Twice the requested
        duration holds for all that come at least that often: a segment ends at the first one after
        `segment_s`. If they are rarer, a segment ends without one, which only a playlist that never claimed
        otherwise may do.
        """
        if passed_through:
            return cls(2 * segment_s, 2 * segment_s * S, independent=False)
        return cls(segment_s, segment_s * S + S * 2 // 5, independent=True)


class PlaylistKind(Enum):
    FULL = "EVENT"
    """It grows, and lists everything; it becomes VOD when it ends."""
    LIVE = ""
    """It slides over the last LIVE_SEGMENTS."""


class Listing:
    """The segments so far, as lines that are kept: a playlist grows with every segment for a day or a week,
    and only new lines are formatted."""

    def __init__(self, promise: PlaylistLimits) -> None:
        self._promise = promise
        self._entries: list[str] = []
        """Lines of each segment."""
        self._newest: deque[Segment] = deque(maxlen=LIVE_SEGMENTS)
        self._count = 0
        self._discontinuities = 0
        self._has_init = False
        self._init = ""
        """The initialisation segment in force at the end."""
        self._markers: tuple[Marker, ...] = ()

    def mark(self, marker: Marker) -> None:
        self._markers = (*self._markers, marker)

    def add(self, segment: Segment) -> None:
        self._entries.append(_entry(segment, self._init))
        self._init = segment.init
        self._newest.append(segment)
        self._count += 1
        self._discontinuities += segment.discontinuity
        self._has_init = self._has_init or bool(segment.init)

    def text(self, kind: PlaylistKind, *, ended: bool = False) -> str:
        """Returns the text of the playlist of that kind."""
        is_full = kind is PlaylistKind.FULL
        shown = self._entries if is_full else _entries(self._newest)
        first = 0 if is_full else self._count - len(self._newest)
        dropped = 0 if is_full else self._discontinuities - sum(s.discontinuity for s in self._newest)
        # Decimal durations need version 3, EXT-X-MAP before segments without I-frames 6 (RFC 8216, 7), and
        # Apple's players take fMP4 from version 7.
        head = ["#EXTM3U", f"#EXT-X-VERSION:{7 if self._has_init else 3}"]
        if is_full:
            head.append(f"#EXT-X-PLAYLIST-TYPE:{'VOD' if ended else 'EVENT'}")
        head.append(f"#EXT-X-TARGETDURATION:{self._promise.target_s}")
        head.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        if dropped:
            head.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{dropped}")
        if self._promise.independent:
            head.append("#EXT-X-INDEPENDENT-SEGMENTS")
        ranges = [date_range(number, each) for number, each in enumerate(self._markers, 1)]
        end = ["#EXT-X-ENDLIST"] if ended else []
        return "\n".join([*head, *ranges, *shown, *end]) + "\n"


def render(
    kind: PlaylistKind,
    segments: Iterable[Segment],
    *,
    promise: PlaylistLimits,
    ended: bool = False,
    markers: Sequence[Marker] = (),
) -> str:
    """Returns the playlist that lists `segments` (all of them so far, whatever the kind)."""
    listing = Listing(promise)
    for marker in markers:
        listing.mark(marker)
    for segment in segments:
        listing.add(segment)
    return listing.text(kind, ended=ended)


def date_range(number: int, marker: Marker) -> str:
    """Formats a named moment (RFC 8216bis 4.4.5.1). A quoted string contains neither quotes nor line ends."""
    title = " ".join(marker.name.replace('"', "'").split())
    return (
        f'#EXT-X-DATERANGE:ID="marker-{number}",CLASS="openegress.marker",'
        f'START-DATE="{date_time(marker.unix_ns)}",DURATION=0.0,X-TITLE="{title}"'
    )


def _entries(segments: Iterable[Segment]) -> list[str]:
    """Returns the lines of a playlist that begins with `segments`."""
    entries: list[str] = []
    init = ""
    for segment in segments:
        entries.append(_entry(segment, init))
        init = segment.init
    return entries


def _entry(segment: Segment, init: str) -> str:
    """Returns the lines of a segment. `init`: the initialisation segment in force before it."""
    lines = []
    # A player that starts at a discontinuity must know of it (RFC 8216, 4.3.2.3).
    if segment.discontinuity:
        lines.append("#EXT-X-DISCONTINUITY")
    # Applies until the next one, wherever a player starts (4.3.2.5). It is repeated for players that forget
    # it at a discontinuity.
    if segment.init and (segment.init != init or segment.discontinuity):
        lines.append(f'#EXT-X-MAP:URI="{uri(segment.init)}"')
    lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date_time(segment.started_at_ns)}")
    lines.append(f"#EXTINF:{seconds(segment.duration_ns)},")
    lines.append(uri(segment.uri))
    return "\n".join(lines)


def rounded_s(duration_ns: int) -> int:
    """Rounds to the nearest second, halves up: players round EXTINF in the same way before they compare it
    with the target."""
    return (duration_ns + S // 2) // S


def seconds(duration_ns: int) -> str:
    """Formats decimal seconds to the microsecond, without an exponent."""
    micros = (duration_ns + 500) // 1000
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def date_time(at_ns: int) -> str:
    """Formats a time as ISO 8601 in UTC with milliseconds, rounded."""
    at_ms = (at_ns + _MILLISECOND_NS // 2) // _MILLISECOND_NS
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def uri(name: str) -> str:
    """Writes a path as a relative URI reference (RFC 3986). A first part with ":" would look like a
    scheme."""
    return quote(name, safe="/-_.~!$&'()*+,;=@")
