"""Finds the tracks of a recorded meeting that belong together. Pure.

One published track of a room may become several tracks of a file: another codec, or other parameters of
H.264, H.265 and AV1, begin another file track. A sender may go back to an earlier one: a phone is turned
twice, or a layer is lost for a while. A participant who publishes a source again continues its file track.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openegress.core.codecs import MediaKind
from openegress.media.meeting_track import PREROLL_NS, MeetingTrack


class SourceKey(NamedTuple):
    """Identifies a track that a participant publishes in a file, whatever its SID and its codec."""

    identity: str
    kind: str
    source: str
    name: str


@dataclass(frozen=True, slots=True)
class Published:
    """A published track, as described by the room's events."""

    key: SourceKey
    at_ns: int
    """When it was published."""
    muted: bool
    encrypted: bool
    """Whether it was encrypted: without a key, it was not recorded."""


@dataclass(frozen=True, slots=True)
class MeetingLine:
    """File tracks of which at most one sends at a time, in the order in which they begin."""

    tracks: tuple[MeetingTrack, ...]

    @property
    def sid(self) -> str:
        """The SID of the line in a composition."""
        return str(self.tracks[0].index)

    @property
    def key(self) -> SourceKey:
        first = self.tracks[0]
        return SourceKey(first.identity, first.kind.value, first.source, first.track_name)

    @property
    def begin_ns(self) -> int:
        return self.tracks[0].spans_ns[0][0]

    @property
    def end_ns(self) -> int:
        return max(track.spans_ns[-1][1] for track in self.tracks)

    @property
    def track_ids(self) -> frozenset[str]:
        return frozenset(track.track_id for track in self.tracks if track.track_id)

    def spans_ns(self, gap_ns: int) -> list[tuple[int, int]]:
        """The spans in which any of the tracks sends; gaps shorter than `gap_ns` are ignored."""
        spans: list[tuple[int, int]] = []
        for begin_ns, end_ns in sorted(span for track in self.tracks for span in track.spans_ns):
            if spans and begin_ns - spans[-1][1] < gap_ns:
                spans[-1] = spans[-1][0], max(spans[-1][1], end_ns)
            else:
                spans.append((begin_ns, end_ns))
        return spans

    def changes_ns(self) -> Iterator[int]:
        """The times at which another of the tracks begins to send."""
        before = None
        for at_ns, index in sorted((at_ns, track.index) for track in self.tracks for at_ns in _keys(track)):
            if index != before:
                yield at_ns
            before = index

    def track_at(self, at_ns: int) -> MeetingTrack:
        """The track that sends at that time: each begins with a key frame."""
        return max(self.tracks, key=lambda track: max((k for k in _keys(track) if k <= at_ns), default=-1))

    def begin_for(self, at_ns: int) -> int:
        """Where decoding must begin to know the line at `at_ns`."""
        before_ns = at_ns - PREROLL_NS
        if self.tracks[0].kind is MediaKind.AUDIO:
            return before_ns
        return max((k for track in self.tracks for k in track.keys_ns if k <= before_ns), default=0)


def lines_of(tracks: Sequence[MeetingTrack]) -> list[MeetingLine]:
    """The lines of these tracks, in the order in which they begin."""
    found: defaultdict[SourceKey, list[list[MeetingTrack]]] = defaultdict(list)
    for track in sorted(tracks, key=lambda each: each.spans_ns[0][0]):
        lines = found[MeetingLine((track,)).key]
        line = next((each for each in lines if any(map(track.is_same_as, each))), None)
        if line is None:
            line = next((each for each in lines if not any(map(track.overlaps, each))), None)
        if line is None:
            lines.append([track])
        else:
            line.append(track)
    made = [MeetingLine(tuple(line)) for lines in found.values() for line in lines]
    return sorted(made, key=lambda each: each.begin_ns)


def matched(published: dict[str, Published], lines: Sequence[MeetingLine]) -> dict[str, MeetingLine]:
    """The line of each published track, by SID. A file has the SID of the first publication of a source; a
    later publication continues a line that no other track has."""
    named = {track_id: line for line in lines for track_id in line.track_ids}
    found: dict[str, MeetingLine] = {}
    taken: set[str] = set()
    for sid in reversed(published):  # a new publication may come before the end of the former one
        if sid in named and named[sid].sid not in taken:
            found[sid] = named[sid]
            taken.add(named[sid].sid)
    for sid, what in published.items():
        if sid in found:
            continue
        free = [each for each in lines if each.key[:3] == what.key[:3] and each.sid not in taken]
        free = [each for each in free if each.key.name == what.key.name] or free
        begun = [each for each in free if each.begin_ns <= what.at_ns]
        if free:
            found[sid] = begun[-1] if begun else free[0]
            taken.add(found[sid].sid)
    return found


def _keys(track: MeetingTrack) -> tuple[int, ...]:
    return track.keys_ns or (track.spans_ns[0][0],)
