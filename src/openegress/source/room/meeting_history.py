"""Finds the state of a room at each moment of a recorded meeting: participants, tracks, and speakers. Pure.

It comes from the events beside the recording, if any, and otherwise from packet times and loudness.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from openegress.core.codecs import MediaKind
from openegress.core.errors import invalid
from openegress.core.text import shown
from openegress.core.units import S
from openegress.media.meeting_track import GAP_NS, as_stored, identity_as_stored
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.meeting_lines import MeetingLine, Published, SourceKey, matched
from openegress.source.room.track_policy import RoomState

LATEST_S = 1e9
"""Limit for times in a sidecar: 31 years."""
LINGER_NS = S // 2
"""A last picture stays this long, so that packets slightly out of order are not lost."""


@dataclass(frozen=True, slots=True)
class RoomMoment:
    """The state of the room from `at_ns` on, in ns since media time zero."""

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
    """The changes in `lines` of a sidecar; what they leave out stays out. Raises EgressError for an invalid
    time."""
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


def of_packets(lines: Sequence[MeetingLine]) -> list[RoomChange]:
    """The changes that follow from packets. Participants are present from their first packet to their last.
    An unchanging screen sends nothing, so a gap does not mean that it was muted."""
    changes: list[RoomChange] = []
    for identity in dict.fromkeys(line.key.identity for line in lines):
        own = [line for line in lines if line.key.identity == identity]
        who = {"identity": identity, "name": own[0].tracks[0].name}
        changes += [
            RoomChange(min(line.begin_ns for line in own), "participant_joined", who),
            RoomChange(max(line.end_ns for line in own) + LINGER_NS, "participant_left", who),
        ]
        for line in own:
            fields = {**line.key._asdict(), "track_id": line.sid}
            changes += [
                RoomChange(line.begin_ns, "track_published", fields),
                RoomChange(line.end_ns + LINGER_NS, "track_unpublished", fields),
            ]
            if line.key.kind == MediaKind.VIDEO.value and line.key.source != TrackSource.SCREEN_SHARE:
                for (_, before), (after, _) in pairwise(line.spans_ns(GAP_NS)):
                    muted = RoomChange(before + LINGER_NS, "track_muted", fields)
                    changes += [muted, RoomChange(after, "track_unmuted", fields)]
    # Participants join before they publish, and leave after it ends.
    order = {"participant_joined": 0, "track_published": 1, "participant_left": 9}
    return sorted(changes, key=lambda each: (each.at_ns, order.get(each.what, 2)))


class MeetingHistory:
    """Iterates over the changes once."""

    def __init__(self, lines: Sequence[MeetingLine]) -> None:
        self._lines = lines
        self._people: dict[str, Participant] = {}
        self._published: dict[str, Published] = {}
        """The published tracks, by SID."""
        self._matched: dict[str, MeetingLine] | None = None
        """The line of each published track, by SID; None: unknown since the last change."""
        self._speakers: tuple[str, ...] = ()
        self._metadata = ""
        """Metadata of the recorder's participant."""

    def moments(self, changes: Iterable[RoomChange]) -> Iterator[RoomMoment]:
        """Yields moments in order, each made on demand: hours of a large room have many."""
        begins = {at_ns for line in self._lines for at_ns in line.changes_ns()}
        pending = deque(sorted(changes, key=lambda each: each.at_ns))
        times = sorted({*(each.at_ns for each in pending), *begins})
        for at_ns in times:
            while pending and pending[0].at_ns <= at_ns:
                self._apply(pending.popleft())
            yield RoomMoment(at_ns, self._state(at_ns))

    def _apply(self, change: RoomChange) -> None:
        fields = change.fields
        identity = identity_as_stored(str(fields.get("identity", "")))
        kind, source = str(fields.get("kind", "")), str(fields.get("source", ""))
        sid = str(fields.get("track_id") or f"{identity}/{kind}/{source}")
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
                key = SourceKey(identity, kind, source, as_stored(str(fields.get("name", ""))))
                self._published[sid] = Published(
                    key, change.at_ns, bool(fields.get("muted")), bool(fields.get("encrypted"))
                )
                self._matched = None
            case "track_unpublished":
                self._published.pop(sid, None)
                self._matched = None
            case "track_muted" | "track_unmuted" if sid in self._published:
                muted = change.what == "track_muted"
                self._published[sid] = replace(self._published[sid], muted=muted)
            case "layout_asked":
                self._metadata = json.dumps({"layout": fields.get("layout", "")})
            case "active_speakers":
                told = fields.get("identities")
                self._speakers = (
                    tuple(map(identity_as_stored, map(str, told))) if isinstance(told, list | tuple) else ()
                )

    def _state(self, at_ns: int) -> RoomState:
        if self._matched is None:
            self._matched = matched(self._published, self._lines)
        tracks = [
            _track(sid, what, self._matched.get(sid), self._people[what.key.identity], at_ns)
            for sid, what in self._published.items()
            if what.key.identity in self._people and (sid in self._matched or not what.encrypted)
        ]
        people = list(self._people.values())
        speakers = tuple(each for each in self._speakers if each in self._people)
        return RoomState(tracks, people, speakers, self._metadata, now_s=at_ns / S)


def _track(sid: str, what: Published, line: MeetingLine | None, who: Participant, at_ns: int) -> Track:
    """A published track as a track of a room. A track that never sent anything has no line."""
    try:
        source = TrackSource(what.key.source)
    except ValueError:
        source = TrackSource.UNKNOWN
    kind = MediaKind.VIDEO if what.key.kind == MediaKind.VIDEO.value else MediaKind.AUDIO
    if line is None:
        return Track(f"silent {sid}", what.key.name, kind, source, "", who, what.muted)
    now = line.track_at(at_ns)
    return Track(line.sid, what.key.name, kind, source, "", who, what.muted, now.width, now.height)
