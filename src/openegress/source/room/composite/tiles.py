"""Finds the tiles of a room, in an order that stays the same while people talk. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from openegress.core.codecs import MediaKind
from openegress.media.geometry import Fit
from openegress.room import Participant, Track, TrackSource

_AGENT, _EGRESS = "agent", "egress"


@dataclass(frozen=True, slots=True)
class Seat:
    """A participant or screen that has a tile, wherever it lies."""

    key: str
    """The seat's key. It survives republishing and reconnecting, because it is made from the identity, not
    the track."""
    participant: Participant
    track: Track | None
    """The video in the tile; None: the participant publishes none."""

    @property
    def name(self) -> str:
        return self.participant.name or self.participant.identity

    @property
    def screen(self) -> bool:
        return self.track is not None and self.track.source is TrackSource.SCREEN_SHARE

    @property
    def muted(self) -> bool:
        return self.track is None or self.track.muted

    @property
    def fit(self) -> Fit:
        """Cameras are cropped to their tile, except portrait ones; a shared screen is always shown whole."""
        if self.screen or (self.track is not None and self.track.height > self.track.width):
            return Fit.CONTAIN
        return Fit.COVER


def attendees(participants: Sequence[Participant]) -> list[Participant]:
    """Everybody but recorders, in order of arrival."""
    people = [each for each in participants if each.kind != _EGRESS]
    return sorted(people, key=lambda each: (each.joined_at_ms, each.identity))


def seats_of(
    participants: Sequence[Participant], tracks: Sequence[Track], name_only: frozenset[str] = frozenset()
) -> list[Seat]:
    """The seats of a room. A participant who publishes nothing has none. An agent that only speaks has one
    only while nobody else has. Participants in `name_only` have one whatever they publish."""
    seats = {
        each.identity: _seats_of_one(each, tracks, has_name=each.identity in name_only)
        for each in attendees(participants)
    }
    silent = {
        each.identity
        for each in participants
        if each.kind == _AGENT and all(seat.track is None for seat in seats.get(each.identity, ()))
    }
    people = [seat for identity, own in seats.items() if identity not in silent for seat in own]
    return people or [seat for own in seats.values() for seat in own]


def _seats_of_one(participant: Participant, tracks: Sequence[Track], *, has_name: bool) -> list[Seat]:
    own = [track for track in tracks if track.participant.identity == participant.identity]
    videos = [track for track in own if track.kind is MediaKind.VIDEO]
    cameras = [track for track in videos if track.source is not TrackSource.SCREEN_SHARE]
    screens = [track for track in videos if track.source is TrackSource.SCREEN_SHARE]
    seats = [
        Seat(f"{participant.identity}/{slot}/{index}", participant, track)
        for slot, each in (("camera", cameras), ("screen", screens))
        for index, track in enumerate(each)
    ]
    if not cameras and (has_name or len(own) > len(videos)):
        seats.insert(0, Seat(f"{participant.identity}/camera/0", participant, None))
    return seats
