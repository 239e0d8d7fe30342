"""The state of a room at each moment of a recorded meeting: participants, their tracks, and speakers. Pure.

It comes from the events beside the recording, if any, and otherwise from packet times and loudness.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openegress.core.codecs import MediaKind
from openegress.core.errors import invalid
from openegress.core.text import shown
from openegress.core.units import S
from openegress.media.meeting_track import MeetingTrack, identity_as_stored
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.track_policy import RoomState

Key = tuple[str, str, str]
"""Identity, kind and source: they match the tracks of a file with the events of a room."""


LATEST_S = 1e9
"""The longest recording: 31 years."""
LINGER_NS = S // 2
"""A last picture stays this long, so that packets slightly out of order are not lost."""


@dataclass(frozen=True, slots=True)
class RoomMoment:
    """Valid from `at_ns` on, ns since media time zero."""

    at_ns: int
    state: RoomState


@dataclass(frozen=True, slots=True)
class RoomChange:
    """A change from one line of events, or from packets."""

    at_ns: int
    what: str
    """The event's name in sidecars."""
    fields: Mapping[str, Any]


def of_events(lines: Iterable[Mapping[str, Any]]) -> list[RoomChange]:
    """`lines` of a sidecar; what they leave out stays out. Raises EgressError for an invalid time."""
    changes = []
    for line in lines:
        media_s, event = line.get("media_s"), line.get("event")
        if isinstance(media_s, int | float) and isinstance(event, str):
            if not abs(media_s) <= LATEST_S:
                raise invalid(
                    f'media_s of "{shown(event, 64)}" is {shown(str(media_s), 20)}, which is not a time'
                )
            changes.append(RoomChange(round(media_s * S), event, line))
    return changes


def of_packets(tracks: Sequence[MeetingTrack]) -> list[RoomChange]:
    """Participants are present from their first packet to their last. An unchanging screen sends nothing, so
    a gap does not mean that it was muted."""
    changes: list[RoomChange] = []
    for identity in dict.fromkeys(track.identity for track in tracks):
        own = [track for track in tracks if track.identity == identity]
        first_ns = min(track.spans_ns[0][0] for track in own)
        last_ns = max(track.spans_ns[-1][1] for track in own) + LINGER_NS
        who = {"identity": identity, "name": own[0].name}
        changes += [
            RoomChange(first_ns, "participant_joined", who),
            RoomChange(last_ns, "participant_left", who),
        ]
        for track in own:
            fields = {"identity": identity, "kind": track.kind.value, "source": track.source}
            first, last = track.spans_ns[0][0], track.spans_ns[-1][1] + LINGER_NS
            changes += [
                RoomChange(first, "track_published", fields),
                RoomChange(last, "track_unpublished", fields),
            ]
            if track.kind is MediaKind.VIDEO and track.source != TrackSource.SCREEN_SHARE:
                for (_, before), (after, _) in zip(track.spans_ns, track.spans_ns[1:], strict=False):
                    muted = RoomChange(before + LINGER_NS, "track_muted", fields)
                    changes += [muted, RoomChange(after, "track_unmuted", fields)]
    # Participants join before they publish, and leave after it ends.
    order = {"participant_joined": 0, "track_published": 1, "participant_left": 9}
    return sorted(changes, key=lambda each: (each.at_ns, order.get(each.what, 2)))


class MeetingHistory:
    """Iterates over the changes once."""

    def __init__(self, tracks: Sequence[MeetingTrack]) -> None:
        self._tracks = tracks
        self._people: dict[str, Participant] = {}
        self._published: dict[Key, bool] = {}
        """Whether each track is muted."""
        self._speakers: tuple[str, ...] = ()
        self._metadata = ""
        """Metadata of the recorder's participant."""

    def moments(self, changes: Iterable[RoomChange]) -> Iterator[RoomMoment]:
        """Yields moments in order, each made on demand: hours of a large room have many. A file track begins
        with its own packets, whatever was published before."""
        begins = {track.spans_ns[0][0] for track in self._tracks}
        pending = deque(sorted(changes, key=lambda each: each.at_ns))
        times = sorted({*(each.at_ns for each in pending), *begins})
        for at_ns in times:
            while pending and pending[0].at_ns <= at_ns:
                self._apply(pending.popleft())
            yield RoomMoment(at_ns, self._state(at_ns))

    def _apply(self, change: RoomChange) -> None:
        fields = change.fields
        identity = identity_as_stored(str(fields.get("identity", "")))
        key = (identity, str(fields.get("kind", "")), str(fields.get("source", "")))
        match change.what:
            case "participant_joined" | "participant_renamed":
                joined_ms = change.at_ns // 1_000_000
                if (known := self._people.get(identity)) is not None:
                    joined_ms = known.joined_at_ms
                kind = str(fields.get("kind", "standard"))
                self._people[identity] = Participant(
                    identity, identity, str(fields.get("name", "")), kind, joined_ms
                )
            case "participant_left":
                self._people.pop(identity, None)
            case "track_published":
                self._published[key] = bool(fields.get("muted"))
            case "track_unpublished":
                self._published.pop(key, None)
            case "track_muted" | "track_unmuted" if key in self._published:
                self._published[key] = change.what == "track_muted"
            case "layout_asked":
                self._metadata = json.dumps({"layout": fields.get("layout", "")})
            case "active_speakers":
                told = fields.get("identities")
                self._speakers = (
                    tuple(map(identity_as_stored, map(str, told))) if isinstance(told, list | tuple) else ()
                )

    def _state(self, at_ns: int) -> RoomState:
        tracks: dict[Key, Track] = {}
        # Another codec of the same camera is a separate file track: the one that began last counts.
        for each in sorted(self._tracks, key=lambda track: track.spans_ns[0][0]):
            key = (each.identity, each.kind.value, each.source)
            if each.spans_ns[0][0] <= at_ns and key in self._published and each.identity in self._people:
                tracks[key] = _track(each, self._people[each.identity], muted=self._published[key])
        people = list(self._people.values())
        speakers = tuple(each for each in self._speakers if each in self._people)
        return RoomState(list(tracks.values()), people, speakers, self._metadata, now_s=at_ns / S)


def _track(each: MeetingTrack, who: Participant, *, muted: bool) -> Track:
    try:
        source = TrackSource(each.source)
    except ValueError:
        source = TrackSource.UNKNOWN
    return Track(str(each.index), each.track_name, each.kind, source, "", who, muted, each.width, each.height)
