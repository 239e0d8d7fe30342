"""Whether selectors match a participant or a track of a room. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from openegress.core.selectors import By, Selector
from openegress.room import Participant, Track


def fits_any(selectors: Iterable[Selector], of: Participant, track: Track | None) -> bool:
    """Without a track, it matches the participant as such."""
    return any(_fits(each, of, track) for each in selectors)


def _fits(selector: Selector, participant: Participant, track: Track | None) -> bool:
    match selector.by:
        case By.IDENTITY:
            text = participant.identity
        case By.NAME:
            text = participant.name
        case By.KIND:
            text = participant.kind
        case By.TRACK if track is not None:
            text = track.name
        case By.SOURCE if track is not None:
            text = track.source.value
        case _:
            return False
    return fnmatchcase(text, selector.pattern)
