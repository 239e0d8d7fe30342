"""Each participant's voice in a file of its own, as options ask for it: "flac". Pure."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from urllib.parse import quote


class StemFormat(StrEnum):
    WAV = "wav"
    FLAC = "flac"
    OPUS = "opus"


CONTENT_TYPE = {StemFormat.WAV: "audio/wav", StemFormat.FLAC: "audio/flac", StemFormat.OPUS: "audio/ogg"}

_LONGEST = 200
"""Characters of an identity in a name; file systems take 255 bytes of all of it."""


def ending(identity: str, form: StemFormat) -> str:
    """Of the name of a stem, as in ".ada.flac": whatever an identity is, it is part of one name, and of no
    other's."""
    text = quote(identity, safe=" @+()")
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "~" + sha256(identity.encode()).hexdigest()[:8]
    return f".{text}.{form.value}"


@dataclass(frozen=True, slots=True)
class Stems:
    """A value of the option."""

    form: StemFormat | None = None
    """None: there are none."""

    @classmethod
    def parse(cls, text: str) -> "Stems":
        """An empty text, or 0: none. Raises ValueError with what it should be, as the end of a sentence."""
        if text.strip() in ("", "0"):
            return cls()
        if text not in list(StemFormat):
            raise ValueError(f"one of {', '.join(StemFormat)}")
        return cls(StemFormat(text))

    def __bool__(self) -> bool:
        return self.form is not None

    def __str__(self) -> str:
        return self.form.value if self.form is not None else ""
