"""Relates a track's RTP time to its sender's clock, by its sender reports. Pure.

A report (RFC 3550 section 6.4.1) has an RTP time and the sender's wall clock at that time. One report may be
wrong, and an SFU continues from an old report while RTP time stands still. So a report counts if it agrees
with those before it, and others replace them only if they agree with each other."""

from collections import deque
from statistics import median_low

from openegress.core.units import MS

AGREE_NS = 60 * MS
"""Reports of one clock agree within this: they are off by some milliseconds each."""
KEPT_REPORTS = 5
SURE_REPORTS = 3
"""Number of reports that must agree: one can be wrong, and an SFU repeats it once before the next comes."""


class ReportLine:
    """The reports of one track. A reading is a report's NTP time less its RTP time, in ns, less the jumps of
    the line of arrivals until then: where RTP time stood still, it stood still against the sender's clock
    too."""

    def __init__(self) -> None:
        self._kept: deque[int] = deque(maxlen=KEPT_REPORTS)
        self._rivals: deque[int] = deque(maxlen=SURE_REPORTS)
        self._jumped_ns = 0
        """The jumps of the line at the newest rival."""

    @property
    def reading_ns(self) -> int | None:
        """The reading that counts; None before the first report."""
        return median_low(self._kept) if self._kept else None

    @property
    def readings_ns(self) -> list[int]:
        """Readings that may be right: the kept one, and the newest if it differs."""
        return [
            each for each in (self.reading_ns, self._rivals[-1] if self._rivals else None) if each is not None
        ]

    @property
    def is_sure(self) -> bool:
        return len(self._kept) >= SURE_REPORTS

    @property
    def rival_ns(self) -> int | None:
        """The reading of the newest reports, if enough of them agree with each other against the kept
        ones."""
        return median_low(self._rivals) if len(self._rivals) >= SURE_REPORTS else None

    def add(self, reading_ns: int, jumped_ns: int) -> None:
        """Takes a reading. `jumped_ns`: the jumps of the line of arrivals until then."""
        before_ns = self.reading_ns
        if before_ns is None or abs(reading_ns - before_ns) <= AGREE_NS:
            self._kept.append(reading_ns)
            self._rivals.clear()
            return
        # After a jump an SFU may be off by the length of the jump, and pauses may be equally long: only a
        # report that is repeated without another jump is not a coincidence.
        has_jumped = abs(jumped_ns - self._jumped_ns) > AGREE_NS
        if self._rivals and (has_jumped or abs(reading_ns - self._rivals[-1]) > AGREE_NS):
            self._rivals.clear()
        self._rivals.append(reading_ns)
        self._jumped_ns = jumped_ns

    def believe_rivals(self) -> None:
        """Replaces the kept readings, which were wrong, by the rivals."""
        self._kept = deque(self._rivals, KEPT_REPORTS)
        self._rivals.clear()

    def forget(self) -> None:
        """Drops all readings; call it for another SSRC, or another clock rate."""
        self._kept.clear()
        self._rivals.clear()
