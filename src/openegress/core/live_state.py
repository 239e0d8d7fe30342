"""What was asked of a recording while it runs, and how long it is, for a worker that takes it over."""

import msgspec

from openegress.core.end_rules import EndRules
from openegress.core.looks import Looks


class LiveState(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="live_state"
):
    """As of one moment."""

    at_ns: int
    """Unix ns of that moment."""
    recorded_ns: int
    """Until then, of all parts: what max_duration counts."""
    is_counting: bool
    """False: it is paused, and that is left out."""
    end_rules: EndRules
    looks: Looks
    layout: str = ""
    """Of a room in a built-in layout, or one of the operator's."""

    def recorded_until_ns(self, unix_ns: int) -> int:
        """If nothing else was asked of it until then."""
        return self.recorded_ns + (max(0, unix_ns - self.at_ns) if self.is_counting else 0)
