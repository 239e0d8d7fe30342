"""Selects participants and tracks of a room, as options write it: "bot-*, kind:agent, source:screen_share".
Pure."""

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

import msgspec
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.models import TrackSource as SourceNumber

KINDS = tuple(name.lower() for name, _ in ParticipantInfo.Kind.items())
SOURCES = tuple(name.lower() for name, _ in SourceNumber.items())


class SelectorField(StrEnum):
    """The field of a participant or a track that is compared."""

    IDENTITY = "identity"
    NAME = "name"
    KIND = "kind"
    TRACK = "track"
    """The name of a track."""
    SOURCE = "source"
    """The source of a track."""


PARTICIPANT_FIELDS = frozenset({SelectorField.IDENTITY, SelectorField.NAME, SelectorField.KIND})
_SIMILARITY = 0.75
"""How similar a name must be to count as a misspelling of another."""
_KNOWN_VALUES = {SelectorField.KIND: KINDS, SelectorField.SOURCE: SOURCES}


class Selector(msgspec.Struct, frozen=True):
    by: SelectorField
    pattern: str
    """A pattern as in fnmatch (*, ?, [...]), case-sensitive. For a kind or a source: one of the known
    ones."""

    def __str__(self) -> str:
        return f"{self.by.value}:{self.pattern}"


@dataclass(frozen=True, slots=True)
class Selectors:
    """Whether one of the selectors matches."""

    each: tuple[Selector, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Selectors":
        """`text` is separated by commas; an empty one has no selectors. Raises ValueError, whose text says
        what it should be, as the end of a sentence."""
        return cls(tuple(_selector(part.strip()) for part in text.split(",")) if text.strip() else ())

    def __bool__(self) -> bool:
        return bool(self.each)

    def __str__(self) -> str:
        return ",".join(map(str, self.each))


def _selector(text: str) -> Selector:
    name, colon, pattern = text.partition(":")
    # An identity may contain a colon.
    if not text:
        raise ValueError("a list with something between its commas")
    is_named = bool(colon) and name in list(SelectorField)
    if (
        colon
        and not is_named
        and (meant := get_close_matches(name.lower(), list(SelectorField), 1, _SIMILARITY))
    ):
        raise ValueError(f"a list with {meant[0]}: in place of {name}: (or identity:{text} for an identity)")
    by = SelectorField(name) if is_named else SelectorField.IDENTITY
    pattern = pattern.strip() if is_named else text
    if not pattern:
        raise ValueError(f"a list in which {by.value}: is followed by a pattern")
    known = _KNOWN_VALUES.get(by)
    if known is not None and pattern not in known:
        raise ValueError(f"a list with a {by.value} that LiveKit has ({', '.join(known)})")
    return Selector(by, pattern)
