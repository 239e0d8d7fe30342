"""How a recording ended whose picture is composed afterwards. Pure."""

import msgspec

from openegress.core.events import EndReason
from openegress.core.left_out import LeftOut
from openegress.output.manifest import Pause, paused_ns


class RecordedSpan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times are unix ns."""

    started_at_ns: int
    ended_at_ns: int
    reason: EndReason
    error: str = ""
    code: str = ""
    left_out: LeftOut = LeftOut()
    pauses: tuple[Pause, ...] = ()
    """Left out of the tracks."""

    @property
    def length_ns(self) -> int:
        """Of its media."""
        return max(0, self.ended_at_ns - self.started_at_ns - paused_ns(self.pauses))
