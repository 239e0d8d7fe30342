"""Converts between the time of a source and that of its recording, which is paused at times. Pure.

Both begin at media time zero. The recording's time stands still during a cut, so media that is placed by it
has no gap. Cuts begin and end at whole blocks of sound: a block lies before a cut or after it.
"""

from dataclasses import dataclass

from openegress.core.span import Span
from openegress.core.units import MS

BLOCK_NS = 20 * MS
"""Length of a block of sound, as media.mixer gives it out."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cuts of one recording. Times are ns since media time zero. Each change gives a new value, so
    threads may share one."""

    over: tuple[Span, ...] = ()
    """The cuts that have ended, in order, none inside another."""
    open_ns: int | None = None
    """When the cut that has not ended began, in the source's time; None: there is none."""

    @property
    def ranges(self) -> tuple[tuple[int, int | None], ...]:
        """(begin, end) of each cut, in order; the open one has no end."""
        over = tuple((cut.begin_ns, cut.end_ns) for cut in self.over)
        return over if self.open_ns is None else (*over, (self.open_ns, None))

    @property
    def edge_ns(self) -> int:
        """Where the open cut begins, in the source's time; without one, where the last cut ended, or zero."""
        if self.open_ns is not None:
            return self.open_ns
        return self.over[-1].end_ns if self.over else 0

    def covers(self, at_ns: int) -> bool:
        """Whether that time of the source is in a cut."""
        return any(begin <= at_ns and (end is None or at_ns < end) for begin, end in self.ranges)

    def begun(self, at_ns: int) -> "Cuts":
        """Returns the cuts with one that begins at the next block; unchanged if one is open already."""
        if self.open_ns is not None:
            return self
        return Cuts(self.over, max(self.edge_ns, _next_block(at_ns)))

    def ended(self, at_ns: int) -> "Cuts":
        """Returns the cuts with the open one ended at the next block; unchanged if none is open."""
        if self.open_ns is None:
            return self
        return Cuts((*self.over, Span(self.open_ns, max(self.open_ns, _next_block(at_ns)))))

    def recorded_ns(self, source_ns: int) -> int:
        """The recording's time at a time of the source; during a cut, the time at which it began."""
        if self.open_ns is not None:
            source_ns = min(source_ns, self.open_ns)
        return source_ns - sum(
            min(source_ns, cut.end_ns) - cut.begin_ns for cut in self.over if cut.begin_ns < source_ns
        )

    def length_ns(self, index: int) -> int:
        """The total length of the cuts that have ended, up to this one."""
        return sum(cut.length_ns for cut in self.over[: index + 1])

    def resumed_ns(self, index: int) -> int:
        """Where the media after the cut begins, in the recording's time."""
        return self.over[index].end_ns - self.length_ns(index)

    def source_ns(self, recorded_ns: int) -> int:
        """The source's time at a time of the recording; at a cut, the time at which it ended."""
        source_ns = recorded_ns
        for cut in self.over:
            if source_ns < cut.begin_ns:
                break
            source_ns += cut.length_ns
        return source_ns


def _next_block(at_ns: int) -> int:
    return -(-at_ns // BLOCK_NS) * BLOCK_NS
