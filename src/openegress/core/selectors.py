"""Who and what of a room is meant, as options write it: "bot-*, kind:agent, source:screen_share". Pure."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.models import TrackSource as SourceNumber

KINDS = tuple(name.lower() for name, _ in ParticipantInfo.Kind.items())
SOURCES = tuple(name.lower() for name, _ in SourceNumber.items())


class By(StrEnum):
    """What of a participant or a track is compared."""

    IDENTITY = "identity"
    NAME = "name"
    KIND = "kind"
    TRACK = "track"
    """The name of a track."""
    SOURCE = "source"
    """Of a track."""


OF_PARTICIPANTS = frozenset({By.IDENTITY, By.NAME, By.KIND})
_KNOWN = {By.KIND: KINDS, By.SOURCE: SOURCES}


class Selector(msgspec.Struct, frozen=True):
    by: By
    pattern: str
    """As fnmatch takes it: *, ?, [...], case counts. Of a kind or a source it is one of those there are."""

    def __str__(self) -> str:
        return f"{self.by.value}:{self.pattern}"


@dataclass(frozen=True, slots=True)
class Selectors:
    """Whatever one of them fits."""

    each: tuple[Selector, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Selectors":
        """`text` has commas between. Raises ValueError with what it should be, as the end of a sentence."""
        return cls(tuple(_selector(part.strip()) for part in text.split(",") if part.strip()))

    def __str__(self) -> str:
        return ",".join(map(str, self.each))


def _selector(text: str) -> Selector:
    name, colon, pattern = text.partition(":")
    # An identity may have a colon of its own.
    is_named = bool(colon) and name in list(By)
    by = By(name) if is_named else By.IDENTITY
    pattern = pattern.strip() if is_named else text
    if not pattern:
        raise ValueError(f"a list in which {by.value}: is followed by a pattern")
    known = _KNOWN.get(by)
    if known is not None and pattern not in known:
        raise ValueError(f"a list with a {by.value} that LiveKit has ({', '.join(known)})")
    return Selector(by, pattern)
