"""Finds the offset between the tracks of one participant. Pure.

Each track lies on the line of its own arrivals, and a picture that takes longer to encode than its sound
arrives later. The reports of both show by how much. They are trusted as far as a path can explain the offset.
Beyond that one of the two clocks is wrong, nobody can tell which, and arrival is the better guess.
"""

from openegress.core.codecs import MediaKind
from openegress.core.units import MS, S
from openegress.room import TrackKey, TrackSource
from openegress.room.sync.arrival import ArrivalLine
from openegress.room.sync.reports import ReportLine

MAX_BEHIND_NS = 600 * MS
"""The longest delay of a slow encoder with look-ahead."""
MAX_AHEAD_NS = 100 * MS
"""The longest delay of a Bluetooth microphone."""
MAX_UNSURE_NS = 100 * MS
"""Limit for a single report: a delay that every browser's encoder explains."""

LIVE_NS = 5 * S
"""Sound that has been silent for longer is no reference: its sender's clock has drifted since."""

_REFERENCES = (TrackSource.MICROPHONE, TrackSource.SCREEN_SHARE_AUDIO, TrackSource.UNKNOWN)


class Member:
    """One track of a participant."""

    def __init__(self, key: TrackKey, line: ArrivalLine) -> None:
        self.key = key
        self.line = line
        self.reports = ReportLine()
        self.behind_ns = 0
        """The last known offset."""

    def lateness_ns(self, reading_ns: int | None) -> int | None:
        """Arrival less the sender's clock; None: unknown. By itself the number means nothing."""
        if reading_ns is None or self.line.base_ns is None:
            return None
        return self.line.base_ns - self.line.jumped_ns - reading_ns


class ParticipantSync:
    """The tracks of one participant. Sound is the reference, because a shift of sound may be heard, but
    nobody sees one of a picture."""

    def __init__(self) -> None:
        self._members: list[Member] = []

    def add(self, key: TrackKey, line: ArrivalLine) -> Member:
        member = Member(key, line)
        self._members.append(member)
        return member

    def remove(self, member: Member) -> None:
        if member in self._members:
            self._members.remove(member)

    def sound_moved(self, member: Member) -> None:
        """Call it when the line of the sound `member` has moved because the sound came late."""
        for each in self._members:
            if each.key.kind is MediaKind.VIDEO:
                each.line.follow(member.line.heard_ns)

    def reported(self, member: Member, reading_ns: int) -> None:
        """Takes a report of the member: see ReportLine."""
        member.reports.add(reading_ns, member.line.jumped_ns)
        rival_ns = member.reports.rival_ns
        # After RTP time stood still, reports may continue as if it had not. So new ones replace old ones only
        # if they fit the arrivals better, or if nothing has been decided yet.
        if rival_ns is not None and (
            not member.reports.is_sure
            or self._apart_ns(member, rival_ns) <= self._apart_ns(member, member.reports.reading_ns)
        ):
            member.reports.believe_rivals()

    def behind_ns(self, member: Member) -> int:
        """How much later `member` arrives than the participant's sound that was captured with it."""
        reference = self._reference() if len(self._members) > 1 else None
        if reference is None or reference is member:
            member.behind_ns = 0
        elif member.line.heard_ns - reference.line.heard_ns <= LIVE_NS:
            member.behind_ns = self._compared_ns(member, reference)
        return member.behind_ns

    def _compared_ns(self, member: Member, reference: Member) -> int:
        kept_ns = _difference_ns(member, member.reports.reading_ns, reference, reference.reports.reading_ns)
        if kept_ns is None:
            return 0
        apart = [
            apart_ns
            for own_ns in member.reports.readings_ns
            for its_ns in reference.reports.readings_ns
            if (apart_ns := _difference_ns(member, own_ns, reference, its_ns)) is not None
        ]
        # If the newest reports contradict earlier ones, arrival decides. But a single report that contradicts
        # others that are also wrong may put a picture anywhere.
        behind_ns = min(apart, key=abs)
        is_sure = member.reports.is_sure and reference.reports.is_sure and _is_explained(kept_ns)
        if not is_sure and abs(behind_ns) > MAX_UNSURE_NS:
            return 0
        return behind_ns if _is_explained(behind_ns) else 0

    def _apart_ns(self, member: Member, reading_ns: int | None) -> int:
        """How far the member would lie from the others, in total."""
        own_ns = member.lateness_ns(reading_ns)
        if own_ns is None:
            return 0
        others = (each.lateness_ns(each.reports.reading_ns) for each in self._members if each is not member)
        return sum(abs(own_ns - its_ns) for its_ns in others if its_ns is not None)

    def _reference(self) -> Member | None:
        sounds = [each for each in self._members if each.key.kind is MediaKind.AUDIO]
        ranked = (each for source in _REFERENCES for each in sounds if each.key.source is source)
        return next((each for each in ranked if each.reports.reading_ns is not None), None)


def _difference_ns(one: Member, one_ns: int | None, another: Member, another_ns: int | None) -> int | None:
    """How much later `one` arrives, given these readings; None: unknown."""
    late_ns, its_ns = one.lateness_ns(one_ns), another.lateness_ns(another_ns)
    return None if late_ns is None or its_ns is None else late_ns - its_ns


def _is_explained(behind_ns: int) -> bool:
    return -MAX_AHEAD_NS <= behind_ns <= MAX_BEHIND_NS


class RoomSync:
    """The participants of a room, by identity. It lasts over re-joins."""

    def __init__(self) -> None:
        self._participants: dict[str, ParticipantSync] = {}

    def of(self, identity: str) -> ParticipantSync:
        return self._participants.setdefault(identity, ParticipantSync())
