"""Ends a recording whose room has been empty for too long, or where nobody has published for too long.
Pure."""

from openegress.core.end_rules import EndRules
from openegress.room import Participant
from openegress.source.room.selection import Selection, Verdict
from openegress.source.room.track_policy import DelegatingPolicy, LastRejoin, RoomState, TrackPolicy

NOT_PEOPLE = frozenset({"agent", "egress"})
"""Kinds of participants who do not count as people."""
_LOOK_AGAIN_S = 1.0
"""Delay before looking again when the due time is unknown."""


def is_person(participant: Participant) -> bool:
    return participant.kind not in NOT_PEOPLE


def is_empty(room: RoomState) -> bool:
    return not any(is_person(each) for each in room.participants)


def is_idle(room: RoomState) -> bool:
    """Whether nobody in the room publishes an unmuted track."""
    return not any(is_person(track.participant) and not track.muted for track in room.tracks)


class Attendance(DelegatingPolicy):
    """Implements TrackPolicy around another policy, which decides everything else."""

    def __init__(self, policy: TrackPolicy, rules: EndRules, *, is_of_room: bool) -> None:
        """`is_of_room`: the other policy ends with the last participant, which then waits for
        stop_when_empty."""
        super().__init__(policy)
        self._empty = _Absence(rules.stop_when_empty_s)
        self._idle = _Absence(rules.stop_when_idle_s)
        self._is_of_room = is_of_room
        self._recheck_at_s: float | None = None

    @property
    def recheck_at_s(self) -> float | None:
        times = [at_s for at_s in (super().recheck_at_s, self._recheck_at_s) if at_s is not None]
        return min(times, default=None)

    def select(self, room: RoomState, before: Selection) -> Selection:
        self._empty.look(is_empty(room), room)
        self._idle.look(is_idle(room), room)
        times = [at_s for each in (self._empty, self._idle) if (at_s := each.recheck_at_s(room)) is not None]
        self._recheck_at_s = min(times, default=None)
        return super().select(room, before)

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        if self._empty.is_over(room.now_s):
            return Verdict.END_EMPTY
        if self._idle.is_over(room.now_s):
            return Verdict.END_IDLE
        verdict = super().verdict(room, selection)
        return Verdict.GO_ON if self._is_of_room and self._empty.limit_s else verdict

    def change_rules(self, rules: EndRules) -> None:
        """Replaces the rules. Time already passed counts towards the new limits."""
        self._empty.limit_s = rules.stop_when_empty_s
        self._idle.limit_s = rules.stop_when_idle_s


class _Absence:
    """Measures an absence, which must not exceed the limit (0: none)."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._since_s: float | None = None
        self._is_away = False

    def look(self, is_away: bool, room: RoomState) -> None:
        self._is_away = is_away
        if not is_away:
            self._since_s = None
        elif self._since_s is None and room.last_rejoin is not LastRejoin.RECENT:
            self._since_s = room.now_s
        # Otherwise the connection was lost, and they may be coming back.

    def recheck_at_s(self, room: RoomState) -> float | None:
        if not self.limit_s or not self._is_away:
            return None
        later_s = room.now_s + _LOOK_AGAIN_S
        if self._since_s is None:
            return later_s
        due_s = self._since_s + self.limit_s
        return due_s if due_s > room.now_s else later_s

    def is_over(self, now_s: float) -> bool:
        return bool(self.limit_s) and self._since_s is not None and now_s >= self._since_s + self.limit_s
