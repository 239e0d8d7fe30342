"""Converts a moment to its time in a recording: seconds since its first frame, minus the pauses before it.
Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from openegress.core.units import S
from openegress.output.sidecar import entries
from openegress.output.sidecar.entries import LogEntry


@dataclass(frozen=True, slots=True)
class MediaTime:
    """The start, end and pauses of a recording, in unix ns."""

    zero_ns: int
    end_ns: int
    pauses: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, log: Iterable[LogEntry], end_ns: int) -> "MediaTime":
        """Reads the times from the log. `end_ns`: where the recording ends if the log does not say so; 0:
        with the log."""
        zero_ns, last_ns, told_end_ns, paused_ns = 0, 0, 0, 0
        pauses: list[tuple[int, int]] = []
        for entry in log:
            last_ns = max(last_ns, entry.at_ns)
            match entry.event:
                case entries.STARTED:
                    zero_ns = entry.at_ns
                case entries.ENDED:
                    told_end_ns = entry.at_ns
                case entries.PAUSED if entry.fields.get(entries.IS_CUT, True):
                    paused_ns = entry.at_ns
                case entries.RESUMED if paused_ns:
                    pauses.append((paused_ns, max(paused_ns, entry.at_ns)))
                    paused_ns = 0
        until_ns = max(told_end_ns or end_ns or last_ns, zero_ns)
        if paused_ns:
            pauses.append((paused_ns, max(paused_ns, until_ns)))
        return cls(zero_ns, until_ns, tuple(pauses))

    def s(self, at_ns: int) -> float:
        """Returns the media time, between 0 and the recording's length; within a pause, where the recording
        stopped."""
        at_ns = min(max(at_ns, self.zero_ns), self.end_ns)
        paused_ns = sum(max(0, min(at_ns, until) - since) for since, until in self.pauses)
        return max(0, at_ns - self.zero_ns - paused_ns) / S
