"""What every recording of a whole room has in common: how much it takes of one person, and its end. Pure."""

import logging
from collections import Counter
from collections.abc import Sequence

from openegress.core.codecs import MediaKind
from openegress.core.text import shown
from openegress.room import Track
from openegress.source.room.composite.tiles import attendees
from openegress.source.room.selection import Verdict
from openegress.source.room.track_policy import RoomState

MOST_TRACKS = 40
"""Of a kind, of one participant: an interpreter with forty languages."""

_log = logging.getLogger(__name__)


class TrackBounds:
    """The first tracks of each: who publishes hundreds is not recorded at the expense of all."""

    def __init__(self) -> None:
        self._over: set[str] = set()
        """Who publishes more than is recorded."""

    def within(self, tracks: Sequence[Track]) -> list[Track]:
        counts: Counter[tuple[str, MediaKind]] = Counter()
        taken = []
        for track in tracks:
            publisher = (track.participant.identity, track.kind)
            counts[publisher] += 1
            if counts[publisher] <= MOST_TRACKS:
                taken.append(track)
        over = {identity for (identity, _), count in counts.items() if count > MOST_TRACKS}
        for identity in over - self._over:
            _log.warning("%s publishes many tracks: the first %d are recorded", shown(identity), MOST_TRACKS)
        self._over = over
        return taken


class RoomEnd:
    """It ends with the last who leaves; a room that nobody has entered yet goes on."""

    def __init__(self) -> None:
        self._attended = False

    def verdict(self, room: RoomState) -> Verdict:
        if attendees(room.participants):
            self._attended = True
            return Verdict.GO_ON
        if not self._attended:
            return Verdict.GO_ON
        return Verdict.END_UNLESS_BACK if room.rejoined_recently else Verdict.END
