"""The participants of a room and their tracks: turns LiveKit's updates into events. Pure.

After joining again some participants may still be away: each client finds a restarted server in its own time.
They are kept for RETURN_GRACE_S before they count as gone, and a track that comes back under a new SID takes
the place of the one with the same key.
"""

from collections.abc import Iterable
from dataclasses import replace

from livekit.protocol.models import (
    ConnectionQuality,
    Encryption,
    ParticipantInfo,
    SpeakerInfo,
    TrackInfo,
    TrackType,
    VideoLayer,
)
from livekit.protocol.models import TrackSource as SourceNumber
from livekit.protocol.rtc import ConnectionQualityInfo

from openegress.core.codecs import MediaKind
from openegress.room import Participant, Track, TrackEncryption, TrackSource
from openegress.room.events import (
    OwnMetadataChanged,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    PauseAttributeChanged,
    Quality,
    QualityChanged,
    SpeakersChanged,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)
from openegress.room.signalling.own_participant import OwnParticipant, says_yes

RETURN_GRACE_S = 20.0
"""Time for participants to come back: LiveKit's SDKs try for some ten seconds, with pauses."""

MAX_NAME_CHARS = 256
"""Limit for names: LiveKit's own default, which an operator may raise."""

OPT_OUT = "egress.exclude"
"""An attribute of a participant who must not be recorded."""

ENCRYPTIONS: dict[int, TrackEncryption] = {
    Encryption.Type.NONE: TrackEncryption.NONE,
    Encryption.Type.GCM: TrackEncryption.GCM,
}
"""Encryptions of LiveKit's own; any other is CUSTOM."""

QUALITIES: dict[int, Quality] = {
    ConnectionQuality.POOR: Quality.POOR,
    ConnectionQuality.GOOD: Quality.GOOD,
    ConnectionQuality.EXCELLENT: Quality.EXCELLENT,
    ConnectionQuality.LOST: Quality.LOST,
}

RosterEvent = (
    ParticipantJoined
    | ParticipantLeft
    | ParticipantChanged
    | SpeakersChanged
    | QualityChanged
    | OwnMetadataChanged
    | PauseAttributeChanged
    | TrackPublished
    | TrackUnpublished
    | TrackMuted
)


class Roster:
    def __init__(self, own_identity: str, return_grace_s: float = RETURN_GRACE_S) -> None:
        self._self = OwnParticipant(own_identity)
        self._grace_s = return_grace_s
        self._participants: dict[str, Participant] = {}
        self._tracks: dict[str, Track] = {}
        self._sids: dict[str, dict[str, bytes]] = {}
        """The last update of each track as received, by identity and SID. Most updates about somebody with
        many tracks repeat earlier ones."""
        self._levels: dict[str, float] = {}
        """The levels of current speakers, by SID."""
        self._qualities: dict[str, Quality] = {}
        """Connection quality of present participants, by SID."""
        self._versions: dict[str, int] = {}
        """The version of each participant's last update, by SID."""
        self._away_tracks: dict[str, float] = {}
        """The times at which tracks count as gone, by SID."""
        self._away_participants: dict[str, float] = {}

    def participants(self) -> list[Participant]:
        return list(self._participants.values())

    def tracks(self) -> list[Track]:
        return list(self._tracks.values())

    def track(self, sid: str) -> Track | None:
        return self._tracks.get(sid)

    def layers(self, sid: str) -> tuple[VideoLayer, ...]:
        track = self._tracks.get(sid)
        return () if track is None else _layers(TrackInfo.FromString(self._told_of(track)))

    @property
    def waiting(self) -> bool:
        """Whether anyone is away whom `expire` may count as gone."""
        return bool(self._away_tracks or self._away_participants)

    def joined(self, infos: Iterable[ParticipantInfo], now_s: float) -> list[RosterEvent]:
        """Takes the list of the whole room after a join."""
        self._levels.clear()
        self._versions.clear()
        self._self.join()
        present = {info.identity: info for info in infos if info.identity != self._self.identity}
        until = now_s + self._grace_s
        for identity, known in self._participants.items():
            if identity not in present or present[identity].sid != known.sid:
                self._away_participants.setdefault(identity, until)
        alive = {track.sid for info in present.values() for track in info.tracks}
        for sid in self._tracks:
            if sid not in alive:
                self._away_tracks.setdefault(sid, until)
        # A server lists them in any order; here they are sorted by arrival.
        arrived = sorted(present.values(), key=lambda info: (_joined_at_ms(info), info.identity))
        return self.updated(arrived)

    def updated(self, infos: Iterable[ParticipantInfo]) -> list[RosterEvent]:
        """Takes updates of some participants, each with all their tracks. Outdated updates are ignored."""
        events: list[RosterEvent] = []
        for info in infos:
            if info.identity == self._self.identity:
                events += self._self.told(info)
                continue
            if info.version < self._versions.get(info.sid, 0):
                continue
            self._versions[info.sid] = info.version
            if info.state == ParticipantInfo.State.DISCONNECTED:
                del self._versions[info.sid]
                self._left(info.identity, info.sid, events)
            else:
                self._present(info, events)
        return events

    def speaking(self, infos: Iterable[SpeakerInfo]) -> list[RosterEvent]:
        """Takes the participants whose speaking has changed."""
        for info in infos:
            if info.active:
                self._levels[info.sid] = info.level
            else:
                self._levels.pop(info.sid, None)
        identities = {each.sid: each.identity for each in self._participants.values()}
        loudest = sorted(self._levels, key=lambda sid: self._levels[sid], reverse=True)
        return [SpeakersChanged(tuple(identities[sid] for sid in loudest if sid in identities))]

    def qualities(self, infos: Iterable[ConnectionQualityInfo]) -> list[RosterEvent]:
        """Takes connection qualities. The server repeats them every few seconds; only a change is an
        event."""
        events: list[RosterEvent] = []
        identities = {each.sid: each.identity for each in self._participants.values()}
        for info in infos:
            identity, quality = identities.get(info.participant_sid), QUALITIES.get(info.quality)
            if identity and quality and self._qualities.get(info.participant_sid) is not quality:
                self._qualities[info.participant_sid] = quality
                events.append(QualityChanged(identity, quality))
        return events

    def expire(self, now_s: float) -> list[RosterEvent]:
        """Removes those who did not come back after a new join."""
        events: list[RosterEvent] = []
        for sid, until in list(self._away_tracks.items()):
            if now_s >= until:
                self._unpublish(sid, events)
        for identity, until in list(self._away_participants.items()):
            if now_s >= until:
                self._left(identity, self._participants[identity].sid, events)
        return events

    def _present(self, info: ParticipantInfo, events: list[RosterEvent]) -> None:
        participant = Participant(
            sid=info.sid,
            identity=info.identity,
            name=info.name[:MAX_NAME_CHARS],
            kind=_kind(info),
            joined_at_ms=_joined_at_ms(info),
            opts_out=says_yes(info, OPT_OUT),
        )
        known = self._participants.get(info.identity)
        if known == participant:
            participant = known  # the one that its tracks know
        self._participants[info.identity] = participant
        returned = self._away_participants.pop(info.identity, None) is not None
        if known is None:
            events.append(ParticipantJoined(participant))
        elif known.sid != participant.sid and not returned:
            # The same identity joined again before the server reported that it had left.
            for sid in self._sids_of(info.identity):
                if sid not in self._away_tracks:
                    self._unpublish(sid, events)
            events += [ParticipantLeft(known), ParticipantJoined(participant)]
        elif (known.name, known.opts_out) != (participant.name, participant.opts_out):
            events.append(ParticipantChanged(participant))
        self._compare_tracks(info, participant, events)

    def _compare_tracks(
        self, info: ParticipantInfo, participant: Participant, events: list[RosterEvent]
    ) -> None:
        published = {each.sid: each for each in info.tracks if _is_media(each)}
        for sid in self._sids_of(info.identity):
            if sid not in published and sid not in self._away_tracks:
                self._unpublish(sid, events)
        for sid, each in published.items():
            told = each.SerializeToString()
            known = self._tracks.get(sid)
            if known is not None and known.participant.identity != info.identity:
                self._unpublish(sid, events)
                known = None
            track = self._as_told(known, each, told, participant)
            if known is None:
                self._take_place(track, events)
            self._away_tracks.pop(sid, None)
            self._tracks[sid] = track
            self._sids.setdefault(info.identity, {})[sid] = told
            if known is None:
                events.append(TrackPublished(track))
            elif known.muted != track.muted:
                events.append(TrackMuted(track))

    def _as_told(self, known: Track | None, info: TrackInfo, told: bytes, participant: Participant) -> Track:
        if known is None or self._told_of(known) != told:
            return _track(info, participant)
        return known if known.participant is participant else replace(known, participant=participant)

    def _take_place(self, track: Track, events: list[RosterEvent]) -> None:
        """Removes the track whose place this one takes: the same track of a participant who was away, which
        is back under a new SID."""
        if not self._away_tracks:
            return
        for sid in self._sids_of(track.participant.identity):
            if sid in self._away_tracks and self._tracks[sid].key == track.key:
                self._unpublish(sid, events)

    def _left(self, identity: str, sid: str, events: list[RosterEvent]) -> None:
        known = self._participants.get(identity)
        if known is None or known.sid != sid:
            return  # an older entry of somebody who is already back
        for track_sid in self._sids_of(identity):
            self._unpublish(track_sid, events)
        self._away_participants.pop(identity, None)
        del self._participants[identity]
        self._qualities.pop(sid, None)
        events.append(ParticipantLeft(known))

    def _unpublish(self, sid: str, events: list[RosterEvent]) -> None:
        self._away_tracks.pop(sid, None)
        track = self._tracks.pop(sid)
        of_identity = self._sids[track.participant.identity]
        del of_identity[sid]
        if not of_identity:
            del self._sids[track.participant.identity]
        events.append(TrackUnpublished(track))

    def _sids_of(self, identity: str) -> list[str]:
        return list(self._sids.get(identity, ()))

    def _told_of(self, track: Track) -> bytes:
        return self._sids[track.participant.identity][track.sid]


def _kind(info: ParticipantInfo) -> str:
    try:
        return ParticipantInfo.Kind.Name(info.kind).lower()
    except ValueError:  # from a server that is newer than we are
        return "standard"


def _joined_at_ms(info: ParticipantInfo) -> int:
    return int(info.joined_at_ms or info.joined_at * 1000)


def _is_media(info: TrackInfo) -> bool:
    return info.type in (TrackType.AUDIO, TrackType.VIDEO)


def _track(info: TrackInfo, participant: Participant) -> Track:
    try:
        source = TrackSource(SourceNumber.Name(info.source).lower())
    except ValueError:
        source = TrackSource.UNKNOWN
    return Track(
        sid=info.sid,
        name=info.name[:MAX_NAME_CHARS],
        kind=MediaKind.AUDIO if info.type == TrackType.AUDIO else MediaKind.VIDEO,
        source=source,
        mime_type=info.mime_type or (info.codecs[0].mime_type if info.codecs else ""),
        participant=participant,
        muted=info.muted,
        width=info.width,
        height=info.height,
        encryption=ENCRYPTIONS.get(info.encryption, TrackEncryption.CUSTOM),
    )


def _layers(info: TrackInfo) -> tuple[VideoLayer, ...]:
    if info.layers:
        return tuple(info.layers)
    return tuple(info.codecs[0].layers) if info.codecs else ()
