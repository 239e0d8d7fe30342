"""A part of a recording, which another worker went on with when the worker before was lost. Pure."""

import msgspec

from openegress.core.events import Restarted
from openegress.core.pause_mode import PauseMode
from openegress.core.restart import Restart, missing_ns


class Part(msgspec.Struct, frozen=True):
    """One behind the first, whose plan has none."""

    number: int
    """From 0, which is the part of the worker that began it. A worker that takes over and comes to nothing
    has had a number too."""
    lost_at_ns: int
    """Unix ns: when the worker before was heard of last."""
    restarts: tuple[Restart, ...] = ()
    """Before this part."""
    recorded_ns: int = 0
    """Before this part, as max_duration counts."""
    pause: PauseMode | None = None
    """The egress is paused, and goes on being so."""

    @property
    def mark(self) -> str:
        """What goes behind the names of its outputs."""
        return f"{self.number + 1:05d}"

    def restarts_until(self, started_at_ns: int) -> tuple[Restart, ...]:
        """With the one that began this part at that unix time, which has a timeline of its own. Nothing is
        missing where a pause goes on that is left out."""
        resumed_at_ns = self.lost_at_ns if self.pause is PauseMode.CUT else started_at_ns
        return (*self.restarts, Restart(self.lost_at_ns, resumed_at_ns, 0))

    def begun(self, at_ns: int) -> Restarted:
        """What its first picture or sound, at that unix time, is for the egress."""
        restarts = self.restarts_until(at_ns)
        return Restarted(at_ns, self.lost_at_ns, len(restarts), missing_ns(restarts))
