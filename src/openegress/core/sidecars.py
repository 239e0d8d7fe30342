"""What is kept of a meeting beside its recording, as options write it: "events,speakers". Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Sidecar(StrEnum):
    EVENTS = "events"
    """Who came and went, what was published, who spoke: JSON lines."""
    SPEAKERS = "speakers"
    """Who spoke when: WebVTT and RTTM."""


ENDINGS: dict[Sidecar, dict[str, str]] = {
    Sidecar.EVENTS: {".events.jsonl": "application/jsonl"},
    Sidecar.SPEAKERS: {".speakers.vtt": "text/vtt", ".speakers.rttm": "text/plain"},
}
"""What the files of each are called behind the name of the recording, and their content types."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """In the order of Sidecar, each once."""

    each: tuple[Sidecar, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Sidecars":
        """`text` has commas between; an empty one has none. Raises ValueError with what it should be, as the
        end of a sentence."""
        names = [part.strip() for part in text.split(",")] if text.strip() else []
        if not set(names) <= set(Sidecar):
            raise ValueError(f"a list of {', '.join(Sidecar)}")
        return cls(tuple(each for each in Sidecar if each in names))

    def __bool__(self) -> bool:
        return bool(self.each)

    def __str__(self) -> str:
        return ",".join(self.each)
