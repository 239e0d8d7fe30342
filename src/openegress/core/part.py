"""A part of a recording that another worker continued when its first worker was lost. Pure."""

import msgspec

from openegress.core.events import Restarted, StreamUpdate
from openegress.core.pause_mode import PauseMode
from openegress.core.restart import Restart, missing_ns


class Part(msgspec.Struct, frozen=True):
    """A part after the first one, whose plan has none."""

    number: int
    """Counts from 0, the part of the worker that began the egress. A worker that takes over but records
    nothing has used up a number too."""
    lost_at_ns: int
    """Unix ns at which the previous worker was last heard of."""
    restarts: tuple[Restart, ...] = ()
    """Before this part."""
    recorded_ns: int = 0
    """Before this part, as max_duration counts."""
    pause: PauseMode | None = None
    """The egress was paused, and stays so."""
    streams: tuple[StreamUpdate, ...] = ()
    """The last update of each URL that the previous workers have sent to."""

    @property
    def mark(self) -> str:
        """The suffix for the names of its outputs."""
        return f"{self.number + 1:05d}"

    def stream(self, output: int, number: int = 0) -> StreamUpdate | None:
        """None: the previous workers have not reported it."""
        found = (each for each in self.streams if (each.output, each.stream) == (output, number))
        return next(found, None)

    def restarts_until(self, started_at_ns: int) -> tuple[Restart, ...]:
        """The restarts including the one that began this part at that unix time. If the egress is paused and
        the pause is cut, nothing is missing."""
        resumed_at_ns = self.lost_at_ns if self.pause is PauseMode.CUT else started_at_ns
        return (*self.restarts, Restart(self.lost_at_ns, resumed_at_ns, 0))

    def begun(self, at_ns: int) -> Restarted:
        """The event that the part's first picture or sound, at that unix time, stands for."""
        restarts = self.restarts_until(at_ns)
        return Restarted(at_ns, self.lost_at_ns, len(restarts), missing_ns(restarts))
