"""Matches selectors with the participants and tracks of a room. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from openegress.core.selectors import Selector, SelectorField
from openegress.room import Participant, Track


def fits_any(selectors: Iterable[Selector], of: Participant, track: Track | None) -> bool:
    """Whether any selector matches the track; without a track, whether one matches the participant."""
    return any(_fits(each, of, track) for each in selectors)


def _fits(selector: Selector, participant: Participant, track: Track | None) -> bool:
    match selector.by:
        case SelectorField.IDENTITY:
            text = participant.identity
        case SelectorField.NAME:
            text = participant.name
        case SelectorField.KIND:
            text = participant.kind
        case SelectorField.TRACK if track is not None:
            text = track.name
        case SelectorField.SOURCE if track is not None:
            text = track.source.value
        case _:
            return False
    return fnmatchcase(text, selector.pattern)
