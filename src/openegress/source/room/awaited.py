"""What a recording waits for before it starts, how long, and the error if it does not come. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Phase
from openegress.room import Track
from openegress.source.room.selection import Missing


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """How long a recording waits for others, in seconds."""

    track_s: float = 10.0
    """For a track that the request names, which is already or soon published."""
    participant_s: float = 30.0
    """For a participant that the request names to join; upstream waits equally long."""
    absence_s: float = 5.0
    """For a participant who left to come back, which takes this long after reloading a browser."""
    rejoin_s: float = 20.0
    """For publishers to come back after a restart of the server; their SDKs retry for longer than this."""

    def limit_s(self, what: Missing) -> float | None:
        """None: there is no limit. A participant may join long before turning the camera on."""
        return {Missing.TRACK: self.track_s, Missing.PARTICIPANT: self.participant_s}.get(what)


def not_found(what: Missing, name: str) -> EgressError:
    """The error after waiting in vain for a track or a participant."""
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
