"""Filters the events of a room for sidecars: they report nothing about people who are left out. Pure."""

from dataclasses import replace

from openegress.core.plan import Recorded
from openegress.core.recent import Recent
from openegress.room import Participant, Track
from openegress.room.events import (
    ConnectionLost,
    DataArrived,
    DataLocked,
    OwnMetadataChanged,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    QualityChanged,
    Reconnected,
    RoomEvent,
    SpeakersChanged,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)
from openegress.source.room.recorded_people import is_seen, why_track

TRANSCRIBED_TRACK = "lk.transcribed_track_id"
"""The attribute of agents' text streams that names the transcribed track."""
MAX_STREAMS = 256
"""Limit for open streams."""
MAX_GONE = 256
"""Limit for participants and tracks that are remembered after they have left: the signal may overtake what
they sent."""


class ObservedRoom:
    """Reports participants who opt out as leaving, and those who opt in again as joining."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._people: dict[str, Participant] = {}
        """Everyone in the room, by identity."""
        self._tracks: dict[str, Track] = {}
        """All their tracks, by SID."""
        self._published: dict[str, dict[str, Track]] = {}
        """All their tracks, by identity and SID."""
        self._told: set[str] = set()
        """Identities of participants reported as present."""
        self._told_tracks: dict[str, Track] = {}
        """Reported tracks, by SID."""
        self._speakers: tuple[str, ...] = ()
        self._streams: Recent[tuple[str, str], frozenset[str]] = Recent(MAX_STREAMS)
        """The people whom each open stream concerns, by sender and id, if its beginning was reported."""
        self._left: Recent[str, None] = Recent(MAX_GONE)
        """Identities of participants who have left, and were reported until then."""
        self._former_owners: Recent[str, str] = Recent(MAX_GONE)
        """Identities by the SIDs of ended tracks."""

    def seen(self, event: RoomEvent) -> list[RoomEvent]:
        """The part of `event` that may be reported."""
        match event:
            case ParticipantJoined(participant) | ParticipantChanged(participant):
                self._people[participant.identity] = participant
                self._left.pop(participant.identity, None)
                return self._about(participant.identity, event)
            case ParticipantLeft(participant):
                self._people.pop(participant.identity, None)
                if participant.identity in self._told:
                    self._left[participant.identity] = None
                return self._about(participant.identity, event)
            case TrackPublished(track) | TrackMuted(track):
                self._add(track)
                return self._about(track.participant.identity, event)
            case TrackUnpublished(track):
                self._remove(track.sid)
                was_told = self._told_tracks.pop(track.sid, None) is not None
                return [*([event] if was_told else []), *self._about(track.participant.identity, None)]
            case SpeakersChanged(identities):
                return self._speaking(tuple(each for each in identities if each in self._told))
            case QualityChanged(identity):
                return [event] if identity in self._told else []
            case DataArrived() if self._is_told_of(event):
                return [event]
            case DataLocked(identity):
                return [event] if identity in self._told else []
            case ConnectionLost():
                self._speakers = ()  # speakers are unknown meanwhile, and the server sends them again
                return [event]
            case Reconnected() | OwnMetadataChanged():
                return [event]
            case _:
                return []

    def _is_told_of(self, data: DataArrived) -> bool:
        """Whether the data may be reported: that depends on the sender, and on the person who is transcribed.
        Data from the server has no sender. Pieces of a stream follow the decision about its beginning,
        because a text grows while it is spoken, and the person may opt out meanwhile."""
        packet = data.packet
        # An agent sends a stream's beginning under the transcribed identity, and its pieces under its own.
        sender = packet.participant_sid or data.identity
        match packet.WhichOneof("value"):
            case "stream_chunk":
                return self._goes_on((sender, packet.stream_chunk.stream_id))
            case "stream_trailer":
                key = sender, packet.stream_trailer.stream_id
                goes_on = self._goes_on(key)
                self._streams.pop(key, None)
                return goes_on
        whom = {data.identity}
        track_id = packet.transcription.track_id
        if packet.WhichOneof("value") == "transcription":
            whom.add(packet.transcription.transcribed_participant_identity)
        elif packet.WhichOneof("value") == "stream_header":
            track_id = packet.stream_header.attributes.get(TRANSCRIBED_TRACK, "")
        if (owner := self._owner_of(track_id)) is not None:
            whom.add(owner)
        if not self._recorded.only:
            whom.discard("")
        if not whom <= self._told | self._left.keys():
            return False
        if packet.WhichOneof("value") == "stream_header":
            self._streams[sender, packet.stream_header.stream_id] = frozenset(whom)
        return True

    def _owner_of(self, sid: str) -> str | None:
        track = self._tracks.get(sid)
        return track.participant.identity if track is not None else self._former_owners.get(sid)

    def _goes_on(self, stream: tuple[str, str]) -> bool:
        """Whether a stream may continue: one about a person who has left may, one about a person who is left
        out may not."""
        whom = self._streams.get(stream)
        return whom is not None and not (whom - self._told) & self._people.keys()

    def _add(self, track: Track) -> None:
        known = self._tracks.get(track.sid)
        if known is not None and known.participant.identity != track.participant.identity:
            self._remove(track.sid)
        self._tracks[track.sid] = track
        self._published.setdefault(track.participant.identity, {})[track.sid] = track

    def _remove(self, sid: str) -> None:
        track = self._tracks.pop(sid, None)
        if track is None:
            return
        self._former_owners[sid] = track.participant.identity
        own = self._published[track.participant.identity]
        del own[sid]
        if not own:
            del self._published[track.participant.identity]

    def _about(self, identity: str, event: RoomEvent | None) -> list[RoomEvent]:
        """Returns `event`, unless it makes somebody join or leave."""
        own = self._published.get(identity, {}).values()
        person = self._people.get(identity)
        publishing = {identity} if any(map(self._is_recorded, own)) else set()
        if person is None or not is_seen(self._recorded, person, publishing):
            return self._gone(identity, event)
        if identity not in self._told:
            self._told.add(identity)
            recorded = [each for each in own if self._is_recorded(each)]
            self._told_tracks |= {each.sid: each for each in recorded}
            return [ParticipantJoined(person), *map(TrackPublished, recorded)]
        match event:
            case TrackPublished(track) | TrackMuted(track) if self._is_recorded(track):
                self._told_tracks[track.sid] = track
                return [event]
            case ParticipantChanged():
                return [event]
            case _:
                return []

    def _gone(self, identity: str, event: RoomEvent | None) -> list[RoomEvent]:
        if identity not in self._told:
            return []
        self._told.discard(identity)
        tracks = [each for each in self._told_tracks.values() if each.participant.identity == identity]
        for each in tracks:
            del self._told_tracks[each.sid]
        speaking = self._speaking(tuple(each for each in self._speakers if each != identity))
        gone = self._people.get(identity)
        if isinstance(event, ParticipantLeft):
            gone = event.participant
        return [*speaking, *map(TrackUnpublished, tracks), *([ParticipantLeft(gone)] if gone else [])]

    def _is_recorded(self, track: Track) -> bool:
        person = self._people.get(track.participant.identity, track.participant)
        return not why_track(self._recorded, replace(track, participant=person))

    def _speaking(self, identities: tuple[str, ...]) -> list[RoomEvent]:
        if set(identities) == set(self._speakers):
            return []
        self._speakers = identities
        return [SpeakersChanged(identities)]
