"""A track's RTP time placed on the sender's wall clock. Pure.

Sender reports say which NTP time an RTP time is (RFC 3550 section 6.4.1). The first one comes seconds
after the first frame, so frames are held until then: a guess would have to be corrected in the middle
of the recording. Later reports correct the drift between the two clocks, slowly.
"""

from enum import Enum

S = 1_000_000_000
MS = 1_000_000

SLEW_PER_S = 1 * MS
"""Ten times the worst drift of a crystal, and far below what is heard or seen."""
FAST_SLEW_PER_S = 20 * MS
"""For a start that was wrong: better two per cent too fast for a while than out of step for an hour."""
WRONG_NS = 60 * MS
REPORT_WEIGHT = 0.25
"""Of one report's deviation: single reports are off by some milliseconds either way."""
JUMP_NS = 5 * S
"""RTP time that runs ahead of the arrivals by this, or back, was started anew by the sender. (Arrivals
that lag behind RTP time prove nothing: they may have been held up.)"""
STEP_NS = 1 * S
"""A report this far off tells of a step, not of drift."""
MIN_STEP_NS = 1_000
"""Between two frames: what 'strictly rising' means at least."""


class Anchor(Enum):
    """What a track's place on the clock rests on."""

    NONE = "none"
    SENDER_REPORT = "sender report"
    ARRIVAL = "arrival"


class Timeline:
    """For one track. Times are unix ns, RTP times 32 bits as they come in."""

    def __init__(self, clock_rate: int, after_ns: int = 0) -> None:
        self._rate = clock_rate
        self._unwrapped: int | None = None
        self.arrival_ns = 0
        """Of the last frame."""
        self._base_rtp = 0
        self._base_ns = 0
        self._offset_ns = 0.0
        """The correction in force."""
        self._target_ns = 0.0
        """The correction to slew to."""
        self._slewed_rtp = 0
        self.last_ns = after_ns
        """The last capture time given out."""
        self.placed_ns = 0
        """What it would have been if it had not to rise."""
        self.anchor = Anchor.NONE

    def unwrap(self, timestamp: int) -> int:
        """RTP time without its wrap-around, nearest to the last one."""
        if self._unwrapped is None:
            return timestamp + (1 << 32)  # room for frames before the first
        ahead = (timestamp - self._unwrapped) & 0xFFFFFFFF
        return self._unwrapped + (ahead - (1 << 32) if ahead >= 1 << 31 else ahead)

    def arrived(self, timestamp: int, arrival_ns: int) -> int:
        """A frame has come: its unwrapped RTP time. Notices when the sender's RTP clock jumped."""
        unwrapped = self.unwrap(timestamp)
        if self._unwrapped is not None:
            by_rtp = (unwrapped - self._unwrapped) * S // self._rate
            passed = arrival_ns - self.arrival_ns
            if (by_rtp - passed > JUMP_NS or by_rtp < -JUMP_NS) and self.anchor is not Anchor.NONE:
                # Goes on from the last frame by the clock on the wall; the next report refines it.
                last = self._place(self._unwrapped)
                self._anchor(unwrapped, last + max(passed, MIN_STEP_NS), Anchor.ARRIVAL)
        self._unwrapped = unwrapped
        self.arrival_ns = arrival_ns
        return unwrapped

    def report(self, ntp_ns: int, timestamp: int, lag_ns: int | None = None) -> int:
        """A sender report, once at least one frame has come.

        `lag_ns` is the least difference of arrival and capture to be expected; the two have different epochs.
        None: not known, the report is right in any case.

        Returns by how much the sender seems to have set its wall clock, mostly 0: to be taken off the
        `ntp_ns` of all later ones.
        """
        if self._unwrapped is None:
            return 0
        unwrapped = self.unwrap(timestamp)
        if self.anchor is Anchor.NONE:
            self._anchor(unwrapped, ntp_ns, Anchor.SENDER_REPORT)
            return 0
        deviation = ntp_ns - self._straight(unwrapped)
        step = int(deviation - self._target_ns)
        if abs(step) > STEP_NS:
            if lag_ns is not None:
                # Did our placing go wrong, or did the sender set its clock? The last arrival agrees with one
                # of the two, even if it was late.
                grown = self.arrival_ns - self._place(self._unwrapped) - lag_ns
                if abs(grown) <= abs(grown - step):
                    return step
            self._anchor(unwrapped, ntp_ns, Anchor.SENDER_REPORT)
        elif self.anchor is Anchor.ARRIVAL:
            self.anchor = Anchor.SENDER_REPORT
            self._target_ns = deviation
        else:
            self._target_ns += REPORT_WEIGHT * (deviation - self._target_ns)
        return 0

    def assume(self, unwrapped: int, capture_ns: int) -> None:
        """No report came in time: this RTP time was then, as far as the arrival tells."""
        if self.anchor is Anchor.NONE:
            self._anchor(unwrapped, capture_ns, Anchor.ARRIVAL)

    def capture_ns(self, unwrapped: int) -> int:
        """When the frame was captured. Frames come in order; the result rises strictly."""
        self._slew(unwrapped)
        self.placed_ns = self._place(unwrapped)
        self.last_ns = max(self.placed_ns, self.last_ns + MIN_STEP_NS)
        return self.last_ns

    def shift(self, by_ns: int) -> None:
        """Moves everything not yet delivered: the sender's clock was found to be wrong, or to have moved."""
        self._base_ns += by_ns

    def restart(self) -> None:
        """A new SSRC: RTP time starts elsewhere and new reports tell where. Still strictly rising."""
        self._unwrapped = None
        self.anchor = Anchor.NONE

    def estimate_ns(self, unwrapped: int) -> int:
        """Where a frame lies, without delivering it."""
        return self._place(unwrapped)

    def _anchor(self, unwrapped: int, at_ns: int, anchor: Anchor) -> None:
        self._base_rtp, self._base_ns = unwrapped, at_ns
        self._offset_ns = self._target_ns = 0.0
        self._slewed_rtp = unwrapped
        self.anchor = anchor

    def _straight(self, unwrapped: int) -> int:
        return self._base_ns + (unwrapped - self._base_rtp) * S // self._rate

    def _place(self, unwrapped: int) -> int:
        return self._straight(unwrapped) + int(self._offset_ns)

    def _slew(self, unwrapped: int) -> None:
        wanted = self._target_ns - self._offset_ns
        passed_s = (unwrapped - self._slewed_rtp) / self._rate
        if wanted and passed_s > 0:
            limit = passed_s * (FAST_SLEW_PER_S if abs(wanted) > WRONG_NS else SLEW_PER_S)
            self._offset_ns += max(-limit, min(limit, wanted))
        self._slewed_rtp = max(unwrapped, self._slewed_rtp)
