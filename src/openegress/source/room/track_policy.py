"""Decides which tracks of a room a recording takes as they come and go, and which it depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from openegress.core.end_rules import EndRules
from openegress.core.plan import MediaSource
from openegress.room import Participant, Track, VideoQuality
from openegress.source.room import selection as rules
from openegress.source.room.selection import Missing, Selection, Verdict


class LastRejoin(Enum):
    """Whether the recorder has lost its connection and joined the room again."""

    NEVER = auto()
    EARLIER = auto()
    """It has joined again: a track that the request names may have another id since then."""
    RECENT = auto()
    """It has joined again recently: other participants may not be back yet either."""


@dataclass(frozen=True, slots=True)
class RoomState:
    """The state of a room at one moment."""

    tracks: Sequence[Track]
    """The published tracks, in order of publishing."""
    participants: Sequence[Participant]
    speakers: Sequence[str] = ()
    """Identities of current speakers, the loudest first."""
    metadata: str = ""
    """The recorder's own metadata, which sets its layout."""
    last_rejoin: LastRejoin = LastRejoin.NEVER
    now_s: float = 0.0
    """Monotonic time."""
    name_only: frozenset[str] = frozenset()
    """Identities of participants who appear only by name."""


class TrackPolicy(Protocol):
    """Decides what a follower records. Each follower has its own policy, which may keep state."""

    @property
    def single_track_id(self) -> str:
        """The id of the only track, whose muting is reported; "": there is none."""

    @property
    def recheck_at_s(self) -> float | None:
        """When to select again even if nothing has happened, as of the last selection."""

    def select(self, room: RoomState, before: Selection) -> Selection: ...

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        """What the recording still waits for before it can start: (what, its id or identity)."""

    def refusal(self, track: Track, what: Missing) -> str:
        """Why `track` is not recorded, though `what` is missing: the end of a sentence that begins with the
        track. "": it can be recorded."""

    def wrong_kind(self, room: RoomState) -> str:
        """The id of a track whose kind differs from the requested one; "" if none."""

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        """Whether a recording that has begun continues."""

    def needs(self, sid: str, selection: Selection) -> bool:
        """Whether there is nothing to record without this track."""

    def names(self, track: Track, selection: Selection) -> bool:
        """Whether the request is for this track, or for its participant."""

    def wants(self, track: Track, selection: Selection) -> bool:
        """Whether the track would be recorded if it were not encrypted."""

    def change_rules(self, rules: EndRules) -> None:
        """Replaces the rules that end the recording automatically, for policies that apply them."""


class DelegatingPolicy:
    """Implements TrackPolicy by delegation, for policies that decide only part of it."""

    def __init__(self, policy: TrackPolicy) -> None:
        self._policy = policy

    @property
    def single_track_id(self) -> str:
        return self._policy.single_track_id

    @property
    def recheck_at_s(self) -> float | None:
        return self._policy.recheck_at_s

    def select(self, room: RoomState, before: Selection) -> Selection:
        return self._policy.select(room, before)

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        return self._policy.missing(room, selection)

    def refusal(self, track: Track, what: Missing) -> str:
        return self._policy.refusal(track, what)

    def wrong_kind(self, room: RoomState) -> str:
        return self._policy.wrong_kind(room)

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        return self._policy.verdict(room, selection)

    def needs(self, sid: str, selection: Selection) -> bool:
        return self._policy.needs(sid, selection)

    def names(self, track: Track, selection: Selection) -> bool:
        return self._policy.names(track, selection)

    def wants(self, track: Track, selection: Selection) -> bool:
        return self._policy.wants(track, selection)

    def change_rules(self, rules: EndRules) -> None:
        self._policy.change_rules(rules)


class RequestedTracks:
    """Takes tracks that a request names individually, or by participant. Implements TrackPolicy."""

    def __init__(self, source: MediaSource, quality: VideoQuality | None) -> None:
        """`quality`: needed for a picture; None takes the best available."""
        self._source = source
        self._quality = quality

    @property
    def single_track_id(self) -> str:
        return self._source.single_track_id

    @property
    def recheck_at_s(self) -> float | None:
        return None

    def select(self, room: RoomState, before: Selection) -> Selection:
        rejoined = room.last_rejoin is not LastRejoin.NEVER
        return rules.select(self._source, room.tracks, before, rejoined=rejoined, quality=self._quality)

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        return rules.missing(self._source, selection, room.tracks, room.participants)

    def refusal(self, track: Track, what: Missing) -> str:
        return ""

    def wrong_kind(self, room: RoomState) -> str:
        return rules.wrong_kind(self._source, room.tracks)

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        return rules.verdict(
            self._source, selection, room.participants, rejoined=room.last_rejoin is LastRejoin.RECENT
        )

    def needs(self, sid: str, selection: Selection) -> bool:
        return [track.sid for track in selection.tracks] == [sid]

    def names(self, track: Track, selection: Selection) -> bool:
        identity = rules.participant_of(self._source)
        return track.participant.identity == identity or track.key in selection.named.values()

    def wants(self, track: Track, selection: Selection) -> bool:
        alone = rules.select(self._source, [track], Selection(named=selection.named, sides=selection.sides))
        return track in alone.tracks

    def change_rules(self, rules: EndRules) -> None:
        """Does nothing: this policy has no such rules."""
