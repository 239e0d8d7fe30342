"""What is kept of a meeting beside its recording, as options write it: "events,speakers". Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Sidecar(StrEnum):
    EVENTS = "events"
    """Who came and went, what was published, who spoke: JSON lines."""
    SPEAKERS = "speakers"
    """Who spoke when: WebVTT and RTTM."""
    CHAT = "chat"
    """Messages: JSON lines."""
    TRANSCRIPT = "transcript"
    """Transcriptions that somebody sends to the room: JSON lines and WebVTT."""
    DATA = "data"
    """Data of any topic as it was sent: JSON lines."""


DATA_CHANNEL_SIDECARS = frozenset({Sidecar.CHAT, Sidecar.TRANSCRIPT, Sidecar.DATA})
"""What is sent beside media."""


ENDINGS: dict[Sidecar, dict[str, str]] = {
    Sidecar.EVENTS: {".events.jsonl": "application/jsonl"},
    Sidecar.SPEAKERS: {".speakers.vtt": "text/vtt", ".speakers.rttm": "text/plain"},
    Sidecar.CHAT: {".chat.jsonl": "application/jsonl"},
    # Players show a text beside a film if it has the film's name and ends in .vtt.
    Sidecar.TRANSCRIPT: {".transcript.jsonl": "application/jsonl", ".vtt": "text/vtt"},
    Sidecar.DATA: {".data.jsonl": "application/jsonl"},
}
"""What each sidecar appends to the name of the recording, and its content type."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """In the order of Sidecar, each once."""

    each: tuple[Sidecar, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Sidecars":
        """`text` is separated by commas; an empty one has none. Raises ValueError, whose text says what it
        should be, as the end of a sentence."""
        names = [part.strip() for part in text.split(",")] if text.strip() else []
        if not set(names) <= set(Sidecar):
            raise ValueError(f"a list of {', '.join(Sidecar)}")
        return cls(tuple(each for each in Sidecar if each in names))

    def __bool__(self) -> bool:
        return bool(self.each)

    def __str__(self) -> str:
        return ",".join(self.each)
