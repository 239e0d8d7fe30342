"""Writes RTTM (NIST, Rich Transcription 2009), for tools that do speaker diarisation. Pure."""

import re
from collections.abc import Iterable, Iterator

from openegress.output.sidecar.speech import SpeechSegment

_APART = re.compile(r"[%\s\x00-\x1f\x7f]")
_NOTHING = "<NA>"


def rttm(segments: Iterable[SpeechSegment], recording: str) -> Iterator[str]:
    """Returns one line for each turn; `recording` is the name of the file."""
    name = _one_word(recording)
    for each in segments:
        length_s = each.end_s - each.begin_s
        yield (
            f"SPEAKER {name} 1 {each.begin_s:.3f} {length_s:.3f} <NA> <NA>"
            f" {_one_word(each.identity)} <NA> <NA>\n"
        )


def _one_word(text: str) -> str:
    """Escapes a field as in a URL: spaces separate fields, so those within one are escaped. So is a name that
    would mean nothing."""
    if text == _NOTHING:
        return text.replace("<", "%3C")
    escaped = _APART.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
    return escaped or _NOTHING
