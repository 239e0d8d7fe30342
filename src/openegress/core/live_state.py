"""The changes requested during a recording, and its length, for the worker that takes it over."""

import msgspec

from openegress.core.end_rules import EndRules
from openegress.core.looks import Looks


class LiveState(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="live_state"
):
    """The state at one moment."""

    at_ns: int
    """Unix ns of that moment."""
    recorded_ns: int
    """The length of all parts up to that moment, as max_duration counts it."""
    is_counting: bool
    """False while nothing counts towards max_duration, as during a pause."""
    end_rules: EndRules
    looks: Looks
    layout: str = ""
    """The name of a built-in layout, or of one of the operator's."""

    def recorded_until_ns(self, unix_ns: int) -> int:
        """The recorded length at that time, if nothing else is requested until then."""
        return self.recorded_ns + (max(0, unix_ns - self.at_ns) if self.is_counting else 0)
