"""What a recording leaves out while it is paused: its source's time and its own, each from the other. Pure.

Both begin at media time zero. The recording's time stands still during a cut, so what is placed by it has no
hole. Cuts begin and end at whole blocks of sound: a block lies before a cut or behind it.
"""

from dataclasses import dataclass

from openegress.core.span import Span
from openegress.core.units import MS

BLOCK_NS = 20 * MS
"""Of sound, as media.mixer gives it out."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Times are ns since media time zero; each change gives a new value, so threads may share one."""

    over: tuple[Span, ...] = ()
    """In order, none inside another."""
    open_ns: int | None = None
    """In the source's time, when the cut began that has no end yet."""

    @property
    def ranges(self) -> tuple[tuple[int, int | None], ...]:
        """(begin, end) of each, in order; the open one has no end."""
        over = tuple((cut.begin_ns, cut.end_ns) for cut in self.over)
        return over if self.open_ns is None else (*over, (self.open_ns, None))

    @property
    def edge_ns(self) -> int:
        """In the source's time: where the open cut begins; else where the last one ended, or zero."""
        if self.open_ns is not None:
            return self.open_ns
        return self.over[-1].end_ns if self.over else 0

    def covers(self, at_ns: int) -> bool:
        """Whether that time of the source is in a cut."""
        return any(begin <= at_ns and (end is None or at_ns < end) for begin, end in self.ranges)

    def begun(self, at_ns: int) -> "Cuts":
        """With a cut that begins at the next block; unchanged if one is open already."""
        if self.open_ns is not None:
            return self
        return Cuts(self.over, max(self.edge_ns, _next_block(at_ns)))

    def ended(self, at_ns: int) -> "Cuts":
        """With the open cut ended at the next block; unchanged if none is open."""
        if self.open_ns is None:
            return self
        return Cuts((*self.over, Span(self.open_ns, max(self.open_ns, _next_block(at_ns)))))

    def recorded_ns(self, source_ns: int) -> int:
        """The recording's time at a time of the source; during a cut, that of its beginning."""
        if self.open_ns is not None:
            source_ns = min(source_ns, self.open_ns)
        return source_ns - sum(
            min(source_ns, cut.end_ns) - cut.begin_ns for cut in self.over if cut.begin_ns < source_ns
        )

    def length_ns(self, index: int) -> int:
        """Of all cuts that are over, up to this one."""
        return sum(cut.length_ns for cut in self.over[: index + 1])

    def resumed_ns(self, index: int) -> int:
        """In the recording's time, where the media after the cut begins."""
        return self.over[index].end_ns - self.length_ns(index)

    def source_ns(self, recorded_ns: int) -> int:
        """The source's time at a time of the recording; at a cut, that of its end."""
        source_ns = recorded_ns
        for cut in self.over:
            if source_ns < cut.begin_ns:
                break
            source_ns += cut.length_ns
        return source_ns


def _next_block(at_ns: int) -> int:
    return -(-at_ns // BLOCK_NS) * BLOCK_NS
