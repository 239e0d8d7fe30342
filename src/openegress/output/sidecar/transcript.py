"""Puts segments of transcriptions together from their pieces. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from openegress.output.sidecar import entries
from openegress.output.sidecar.entries import MAX_TEXT_CHARS, LogEntry
from openegress.output.sidecar.media_time import MediaTime

SHORTEST_S = 1.5
"""Shortest time for which a cue is shown, even if its text came in one piece."""
CHARS_PER_S = 15.0
"""Reading speed: a cue is shown long enough to read it."""


@dataclass(slots=True)
class TranscriptSegment:
    identity: str
    sender: str
    """The sender's SID, or identity if no server stated the SID."""
    number: str
    begin_ns: int
    end_ns: int
    """Time of its last text."""
    text: str = ""
    final: bool = False
    track_id: str = ""
    language: str = ""

    def add(self, entry: LogEntry) -> None:
        fields = entry.fields
        if fields["text"]:
            self.end_ns = entry.at_ns
            # A text that starts again replaces the previous one only once it is not empty.
            before = self.text if fields["continues"] else ""
            # Each stream is bounded, but many may add to one segment.
            self.text = before + fields["text"][: MAX_TEXT_CHARS - len(before)]
        self.final = fields["final"]
        self.track_id = fields["track_id"] or self.track_id
        self.language = fields["language"] or self.language


def transcript(log: Iterable[LogEntry]) -> list[TranscriptSegment]:
    """Returns the segments in the order in which they begin. A segment begins with its first piece."""
    found: dict[tuple[str, str, str], TranscriptSegment] = {}
    anew: set[tuple[str, str, str]] = set()
    for entry in log:
        if entry.event != entries.TRANSCRIPT:
            continue
        fields = entry.fields
        # Nobody may replace what somebody else has sent.
        key = (fields["identity"], fields.get("sender", ""), fields["segment"])
        if key not in found:
            found[key] = TranscriptSegment(*key, entry.at_ns, entry.at_ns)
        if not fields["continues"] and not fields["text"]:
            anew.add(key)  # a stream that begins
        elif fields["text"] and key in anew:
            anew.discard(key)
            found[key].text = ""
        found[key].add(entry)
    return sorted((each for each in found.values() if each.text.strip()), key=lambda each: each.begin_ns)


def spans_s(segments: Iterable[TranscriptSegment], time: MediaTime) -> list[tuple[float, float]]:
    """Returns the times at which each segment is shown and hidden. Two cues of one person never overlap."""
    ordered = list(segments)
    spans: list[tuple[float, float]] = []
    next_begin_s: dict[str, float] = {}
    for each in reversed(ordered):
        begin_s = time.s(each.begin_ns)
        readable_s = max(SHORTEST_S, len(each.text) / CHARS_PER_S)
        end_s = max(time.s(each.end_ns), begin_s + readable_s)
        end_s = min(end_s, next_begin_s.get(each.identity, end_s), max(time.s(time.end_ns), begin_s))
        next_begin_s[each.identity] = begin_s
        spans.append((begin_s, end_s))
    return spans[::-1]
