"""Moves pictures to their line when it has moved, faster or slower by a tenth, which nobody sees. Pure."""

from openegress.core.units import MS, S

SLEW = 0.1
"""The share of a picture's time by which it is moved if less than JUMP_NS is missing: nobody sees it."""
FAST_SLEW = 0.5
JUMP_NS = 100 * MS
"""A picture that is off by more than this is out of step with its sound: it is moved fast if it is late, and
at once if it is early."""
MIN_STEP_NS = 1 * MS
"""Minimum gap between two pictures if RTP time started again."""
BROKEN_NS = 1 * S
"""No path changes by this much from one frame to the next: RTP time jumped."""


class PictureLine:
    """Moves a picture's line to its target. RTP times are in ns."""

    def __init__(self) -> None:
        self._line_ns: int | None = None
        self._rtp_ns = 0
        self._latest_ns = 0

    def place(self, rtp_ns: int, target_ns: int) -> int:
        """The place of a frame whose line should be at `target_ns`."""
        line_ns = self._line_ns
        if line_ns is None:
            line_ns = target_ns
        elif abs(target_ns - line_ns) > BROKEN_NS:
            line_ns = max(target_ns, self._latest_ns + MIN_STEP_NS - rtp_ns)
        elif target_ns - line_ns > JUMP_NS:
            line_ns = target_ns
        else:
            passed_ns = max(0, rtp_ns - self._rtp_ns)
            share = FAST_SLEW if line_ns - target_ns > JUMP_NS else SLEW
            most_ns = int(passed_ns * share)
            line_ns += max(-most_ns, min(most_ns, target_ns - line_ns))
        self._line_ns = line_ns
        self._rtp_ns = max(self._rtp_ns, rtp_ns) if abs(rtp_ns - self._rtp_ns) < BROKEN_NS else rtp_ns
        placed_ns = rtp_ns + line_ns
        self._latest_ns = max(self._latest_ns, placed_ns)
        return placed_ns
