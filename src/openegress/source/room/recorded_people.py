"""Leaves people and tracks of a room out of its recording: they are not even subscribed to. Pure."""

import logging
from dataclasses import replace

from openegress.core.plan import Recorded
from openegress.core.selectors import OF_PARTICIPANTS
from openegress.core.text import shown
from openegress.room import Participant, Track
from openegress.source.room.selecting import fits_any
from openegress.source.room.selection import Missing, Selection
from openegress.source.room.track_policy import PolicyAround, RoomState, TrackPolicy

_log = logging.getLogger(__name__)


class RecordedPeople(PolicyAround):
    """Implements TrackPolicy around another, which sees of the room only what is recorded.

    The end of a recording is decided by the whole room: who is left out is in it all the same.
    """

    def __init__(self, policy: TrackPolicy, recorded: Recorded) -> None:
        super().__init__(policy)
        self._recorded = recorded
        self._only_people = [each for each in recorded.only if each.by in OF_PARTICIPANTS]
        self._opted_out: frozenset[str] = frozenset()

    def select(self, room: RoomState, before: Selection) -> Selection:
        self._tell_opted_out(room)
        return super().select(self._seen_of(room), before)

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        what, name = super().missing(self._seen_of(room), selection)
        if what is Missing.PARTICIPANT and any(each.identity == name for each in room.participants):
            return Missing.PUBLICATION, name  # there, and left out
        return what, name

    def refusal(self, track: Track, what: Missing) -> str:
        # Of a participant another track may come that is not left out; of a person nothing will.
        whole = what is Missing.PUBLICATION
        why = self._why_person(track.participant) if whole else self._why(track)
        return why or super().refusal(track, what)

    def _seen_of(self, room: RoomState) -> RoomState:
        tracks = [track for track in room.tracks if not self._why(track)]
        recorded = {track.participant.identity for track in tracks}
        people = [each for each in room.participants if self._is_seen(each, recorded)]
        seen = {each.identity for each in people}
        speakers = tuple(identity for identity in room.speakers if identity in seen)
        if not self._recorded.shows_left_out:
            return replace(room, tracks=tracks, participants=people, speakers=speakers)
        publish = {track.participant.identity for track in room.tracks}
        return replace(
            room,
            tracks=tracks,
            participants=[each for each in room.participants if each.identity in seen | publish],
            speakers=speakers,
            name_only=frozenset(publish - seen),
        )

    def _is_seen(self, participant: Participant, recorded: set[str]) -> bool:
        if self._why_person(participant):
            return False
        only = self._only_people
        return not only or participant.identity in recorded or fits_any(only, participant, None)

    def _why(self, track: Track) -> str:
        """Why a track is not recorded; "": it is."""
        if why := self._why_person(track.participant):
            return why
        if fits_any(self._recorded.left_out, track.participant, track):
            return "is left out (leave_out)"
        only = self._recorded.only
        if only and not fits_any(only, track.participant, track):
            return "is not among what is recorded (record_only)"
        return ""

    def _why_person(self, participant: Participant) -> str:
        """Why nothing of a participant is recorded, whatever it publishes; "": something may be."""
        if self._recorded.may_opt_out and participant.opts_out:
            return "is left out: its participant has opted out of being recorded"
        if fits_any(self._recorded.left_out, participant, None):
            return "is left out with its participant (leave_out)"
        only = self._recorded.only
        if len(self._only_people) == len(only) > 0 and not fits_any(only, participant, None):
            return "is of a participant who is not among those recorded (record_only)"
        return ""

    def _tell_opted_out(self, room: RoomState) -> None:
        if not self._recorded.may_opt_out:
            return
        now = frozenset(each.identity for each in room.participants if each.opts_out)
        for identity in now - self._opted_out:
            _log.info("%s has opted out of being recorded", shown(identity))
        for identity in self._opted_out - now:
            _log.info("%s may be recorded", shown(identity))
        self._opted_out = now
