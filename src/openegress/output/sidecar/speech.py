"""Finds who spoke when, from the server's reports of active speakers. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from openegress.output.sidecar import entries
from openegress.output.sidecar.entries import LogEntry
from openegress.output.sidecar.media_time import MediaTime

JOIN_S = 0.5
"""Limit for a silence that is only a breath of one speaker: LiveKit measures levels every 0.4 s."""


@dataclass(frozen=True, slots=True, order=True)
class SpeechSegment:
    begin_s: float
    end_s: float
    identity: str


def segments(log: Iterable[LogEntry], time: MediaTime) -> list[SpeechSegment]:
    """Returns the segments in the order in which they begin."""
    spoken: dict[str, list[tuple[float, float]]] = {}
    speaking: dict[str, float] = {}

    def settle(now: Iterable[str], at_s: float) -> None:
        kept = set(now)
        for identity in [each for each in speaking if each not in kept]:
            _add(spoken.setdefault(identity, []), speaking.pop(identity), at_s)
        for identity in kept:
            speaking.setdefault(identity, at_s)

    told = (each for each in log if each.event == entries.SPEAKERS or _hides_speakers(each))
    # A process that continues the recording logs what it finds before the gap.
    for entry in sorted(told, key=lambda each: each.at_ns):
        settle(entry.fields.get("identities", ()), time.s(entry.at_ns))
    settle((), time.s(time.end_ns))
    return sorted(
        SpeechSegment(begin_s, end_s, identity)
        for identity, spans in spoken.items()
        for begin_s, end_s in spans
    )


def _hides_speakers(entry: LogEntry) -> bool:
    """Whether nobody knows who speaks from then on."""
    is_gap = entry.event == entries.PAUSED and entry.fields.get(entries.IS_RESTART, False)
    return is_gap or entry.event in (entries.LOST, entries.ENDED)


def _add(spans: list[tuple[float, float]], begin_s: float, end_s: float) -> None:
    if end_s <= begin_s:
        return
    if spans and begin_s - spans[-1][1] < JOIN_S:
        spans[-1] = (spans[-1][0], end_s)
    else:
        spans.append((begin_s, end_s))
