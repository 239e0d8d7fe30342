"""Writes WebVTT (W3C, Candidate Recommendation of 2019) with the speaker of each cue. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
"""Control characters, line ends, and marks that reverse the text behind them, such as an identity."""
_SHORTEST_S = 0.001
"""Shortest length of a cue, as it must end after it begins."""


@dataclass(frozen=True, slots=True)
class Cue:
    begin_s: float
    end_s: float
    voice: str
    text: str


def webvtt(cues: Iterable[Cue]) -> Iterator[str]:
    """Returns the text, in parts. `cues` are in the order in which they begin. A cue without text is left
    out."""
    yield "WEBVTT\n"
    for cue in cues:
        text, voice = _escaped(cue.text), _escaped(cue.voice)
        if not text:
            continue
        end_s = max(cue.end_s, cue.begin_s + _SHORTEST_S)
        span = f"<v {voice}>" if voice else ""
        yield f"\n{timestamp(cue.begin_s)} --> {timestamp(end_s)}\n{span}{text}\n"


def timestamp(at_s: float) -> str:
    """Formats a time as hh:mm:ss.ttt, with as many digits for hours as needed."""
    ms = round(at_s * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _escaped(text: str) -> str:
    """Puts a text on one line and escapes it: an empty line would end the cue, and --> begin another."""
    line = _UNSEEN.sub(" ", text).strip()
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
