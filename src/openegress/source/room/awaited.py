"""Defines how long a recording waits for what it needs, and the errors if that does not come. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Phase
from openegress.room import Track
from openegress.source.room.selection import Missing


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Limits for the time that a recording waits for others, in seconds."""

    track_s: float = 10.0
    """Limit for a track that the request names, which is published already or soon."""
    participant_s: float = 30.0
    """Limit for a participant that the request names to join; upstream waits as long."""
    absence_s: float = 5.0
    """Limit for a participant who left to come back, which takes this long after reloading a browser."""
    rejoin_s: float = 20.0
    """Limit for publishers to come back after a restart of the server; their SDKs retry for longer than
    this."""

    def limit_s(self, what: Missing) -> float | None:
        """The limit for one kind of thing; None: there is none, because a participant may join long before
        turning the camera on."""
        return {Missing.TRACK: self.track_s, Missing.PARTICIPANT: self.participant_s}.get(what)


def not_found(what: Missing, name: str) -> EgressError:
    """The error if a track or a participant did not come in time."""
    return EgressError(
        Code.NOT_FOUND,
        f"{'track' if what is Missing.TRACK else 'participant'} {name} not found",
        phase=Phase.FIRST_TRACK,
    )


def refuse_useless(
    what: Missing, name: str, tracks: Iterable[Track], why_useless: Callable[[Track, Missing], str]
) -> None:
    """Raises EgressError if the awaited track is there but cannot be recorded. `why_useless` ends a sentence
    that begins with the track; "": it can be recorded."""
    for track in tracks:
        named = {Missing.TRACK: track.sid, Missing.PUBLICATION: track.participant.identity}
        if named.get(what) == name and (why := why_useless(track, what)):
            raise EgressError(
                Code.FAILED_PRECONDITION,
                f"track {track.sid} of {track.participant.identity} {why}",
                phase=Phase.FIRST_TRACK,
            )
