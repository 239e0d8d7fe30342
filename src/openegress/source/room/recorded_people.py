"""Leaves people and tracks out of a room's recording: their tracks are not even subscribed to. Pure."""

import logging
from collections.abc import Container
from dataclasses import replace

from openegress.core.plan import Recorded
from openegress.core.selectors import PARTICIPANT_FIELDS
from openegress.core.text import shown
from openegress.room import Participant, Track
from openegress.source.room.selecting import fits_any
from openegress.source.room.selection import Missing, Selection
from openegress.source.room.track_policy import DelegatingPolicy, RoomState, TrackPolicy

_log = logging.getLogger(__name__)


class RecordedPeople(DelegatingPolicy):
    """Implements TrackPolicy around another policy, which sees only the recorded part of the room. The whole
    room decides when a recording ends: people who are left out are still in it."""

    def __init__(self, policy: TrackPolicy, recorded: Recorded) -> None:
        super().__init__(policy)
        self._recorded = recorded
        self._opted_out: frozenset[str] = frozenset()

    def select(self, room: RoomState, before: Selection) -> Selection:
        self._tell_opted_out(room)
        return super().select(self._seen_of(room), before)

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        what, name = super().missing(self._seen_of(room), selection)
        if what is Missing.PARTICIPANT and any(each.identity == name for each in room.participants):
            return Missing.PUBLICATION, name  # present, but left out
        return what, name

    def refusal(self, track: Track, what: Missing) -> str:
        # A participant may publish another track that is not left out; a left-out person will not.
        whole = what is Missing.PUBLICATION
        why = why_person(self._recorded, track.participant) if whole else why_track(self._recorded, track)
        return why or super().refusal(track, what)

    def wants(self, track: Track, selection: Selection) -> bool:
        return not why_track(self._recorded, track) and super().wants(track, selection)

    def _seen_of(self, room: RoomState) -> RoomState:
        tracks = [track for track in room.tracks if not why_track(self._recorded, track)]
        recorded = {track.participant.identity for track in tracks}
        people = [each for each in room.participants if is_seen(self._recorded, each, recorded)]
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

    def _tell_opted_out(self, room: RoomState) -> None:
        if not self._recorded.may_opt_out:
            return
        now = frozenset(each.identity for each in room.participants if each.opts_out)
        for identity in now - self._opted_out:
            _log.info("%s has opted out of being recorded", shown(identity))
        for identity in self._opted_out - now:
            _log.info("%s may be recorded", shown(identity))
        self._opted_out = now


def is_seen(recorded: Recorded, participant: Participant, publishing: Container[str]) -> bool:
    """Whether a recording knows of a participant. `publishing`: the identities of participants with a
    recorded track."""
    if why_person(recorded, participant):
        return False
    only = [each for each in recorded.only if each.by in PARTICIPANT_FIELDS]
    return not only or participant.identity in publishing or fits_any(only, participant, None)


def why_track(recorded: Recorded, track: Track) -> str:
    """Why a track is not recorded; "" if it is."""
    if why := why_person(recorded, track.participant):
        return why
    if fits_any(recorded.left_out, track.participant, track):
        return "is left out (leave_out)"
    if recorded.only and not fits_any(recorded.only, track.participant, track):
        return "is not among the recorded tracks (record_only)"
    return ""


def why_person(recorded: Recorded, participant: Participant) -> str:
    """Why nothing of a participant can be recorded, whatever they publish; "" if something can."""
    if recorded.may_opt_out and participant.opts_out:
        return "is left out: its participant has opted out of being recorded"
    if fits_any(recorded.left_out, participant, None):
        return "is left out with its participant (leave_out)"
    is_of_people = all(each.by in PARTICIPANT_FIELDS for each in recorded.only)
    if recorded.only and is_of_people and not fits_any(recorded.only, participant, None):
        return "belongs to a participant who is not recorded (record_only)"
    return ""
