"""Decides how many tracks of one person a recording of a whole room takes, and when it ends. Pure."""

import logging
from collections import Counter
from collections.abc import Sequence

from openegress.core.codecs import MediaKind
from openegress.core.end_rules import EndRules
from openegress.core.text import shown
from openegress.room import Track
from openegress.source.room.composite.tiles import attendees
from openegress.source.room.selection import Missing, Selection, Verdict
from openegress.source.room.track_policy import LastRejoin, RoomState

MAX_TRACKS = 40
"""Limit for tracks per kind and participant: an interpreter with forty languages."""

_log = logging.getLogger(__name__)


class TrackBounds:
    """Keeps the first tracks of each participant: publishing hundreds must not harm the other
    participants."""

    def __init__(self) -> None:
        self._over: set[str] = set()
        """Participants who exceed the limit."""

    def within(self, tracks: Sequence[Track]) -> list[Track]:
        counts: Counter[tuple[str, MediaKind]] = Counter()
        taken = []
        for track in tracks:
            publisher = (track.participant.identity, track.kind)
            counts[publisher] += 1
            if counts[publisher] <= MAX_TRACKS:
                taken.append(track)
        over = {identity for (identity, _), count in counts.items() if count > MAX_TRACKS}
        for identity in over - self._over:
            _log.warning("%s publishes many tracks: the first %d are recorded", shown(identity), MAX_TRACKS)
        self._over = over
        return taken


class WholeRoom:
    """The common part of a TrackPolicy for a whole room; subclasses select the tracks.

    It ends when the last participant leaves. It continues while nobody has entered yet.
    """

    single_track_id = ""

    def __init__(self) -> None:
        self._bounds = TrackBounds()
        self._attended = False

    @property
    def recheck_at_s(self) -> float | None:
        return None

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        return Missing.NOTHING, ""  # later participants are recorded from then on

    def refusal(self, track: Track, what: Missing) -> str:
        return ""

    def wrong_kind(self, room: RoomState) -> str:
        return ""

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        if attendees(room.participants):
            self._attended = True
            return Verdict.GO_ON
        if not self._attended:
            return Verdict.GO_ON
        return Verdict.END_UNLESS_BACK if room.last_rejoin is LastRejoin.RECENT else Verdict.END

    def needs(self, sid: str, selection: Selection) -> bool:
        return False

    def names(self, track: Track, selection: Selection) -> bool:
        return False

    def change_rules(self, rules: EndRules) -> None:
        """Does nothing: this policy has no such rules."""
