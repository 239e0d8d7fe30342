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
"""Limit for the characters of an identity in a name; file systems take 255 bytes for the whole name."""


def ending(identity: str, form: StemFormat) -> str:
    """The ending of a stem's name, as in ".ada.flac": any identity becomes part of one name, and no two share
    one."""
    text = quote(identity, safe=" @+()")
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "~" + sha256(identity.encode()).hexdigest()[:8]
    return f".{text}.{form.value}"


@dataclass(frozen=True, slots=True)
class Stems:
    """The value of the option."""

    form: StemFormat | None = None
    """None: no stems."""

    @classmethod
    def parse(cls, text: str) -> "Stems":
        """An empty text or 0 means none. Raises ValueError, whose text says what it should be, as the end of
        a sentence."""
        if text.strip() in ("", "0"):
            return cls()
        if text not in list(StemFormat):
            raise ValueError(f"one of {', '.join(StemFormat)}")
        return cls(StemFormat(text))

    def __bool__(self) -> bool:
        return self.form is not None

    def __str__(self) -> str:
        return self.form.value if self.form is not None else ""
