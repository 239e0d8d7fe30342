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
        self._arrival_ns = 0
        self._base_rtp = 0
        self._base_ns = 0
        self._offset_ns = 0.0
        """The correction in force."""
        self._target_ns = 0.0
        """The correction to slew to."""
        self._slewed_rtp = 0
        self.last_ns = after_ns
        """The last capture time given out."""
        self._lag_ns = 0
        """Arrival less capture when the anchor was set; the two clocks have different epochs."""
        self._sender_step_ns = 0
        """By how much the sender set its wall clock since."""
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
            passed = arrival_ns - self._arrival_ns
            if (by_rtp - passed > JUMP_NS or by_rtp < -JUMP_NS) and self.anchor is not Anchor.NONE:
                # Goes on from the last frame by the clock on the wall; the next report refines it.
                last = self._place(self._unwrapped)
                self._anchor(unwrapped, last + max(passed, MIN_STEP_NS), Anchor.ARRIVAL)
        self._unwrapped = unwrapped
        self._arrival_ns = arrival_ns
        return unwrapped

    def report(self, ntp_ns: int, timestamp: int) -> None:
        """A sender report, once at least one frame has come."""
        if self._unwrapped is None:
            return
        unwrapped = self.unwrap(timestamp)
        if self.anchor is Anchor.NONE:
            self._anchor(unwrapped, ntp_ns, Anchor.SENDER_REPORT)
            return
        deviation = ntp_ns - self._sender_step_ns - self._straight(unwrapped)
        if abs(deviation - self._target_ns) > STEP_NS:
            self._stepped(unwrapped, deviation)
        elif self.anchor is Anchor.ARRIVAL:
            self.anchor = Anchor.SENDER_REPORT
            self._target_ns = deviation
            self._lag_ns = self._arrival_ns - self._place(self._unwrapped)
        else:
            self._target_ns += REPORT_WEIGHT * (deviation - self._target_ns)

    def _stepped(self, unwrapped: int, deviation: int) -> None:
        """The reports moved: because our placing went wrong, or because the sender set its clock?"""
        assert self._unwrapped is not None
        lag = self._arrival_ns - self._place(self._unwrapped)
        if abs(lag - self._lag_ns) > STEP_NS:
            self._anchor(unwrapped, self._straight(unwrapped) + deviation, Anchor.SENDER_REPORT)
        else:
            self._sender_step_ns += int(deviation - self._target_ns)

    def assume(self, unwrapped: int, capture_ns: int) -> None:
        """No report came in time: this RTP time was then, as far as the arrival tells."""
        if self.anchor is Anchor.NONE:
            self._anchor(unwrapped, capture_ns, Anchor.ARRIVAL)

    def capture_ns(self, unwrapped: int) -> int:
        """When the frame was captured. Frames come in order; the result rises strictly."""
        self._slew(unwrapped)
        self.last_ns = max(self._place(unwrapped), self.last_ns + MIN_STEP_NS)
        return self.last_ns

    def shift(self, by_ns: int) -> None:
        """Moves everything not yet delivered: the sender's clock was found to be wrong."""
        self._base_ns += by_ns
        self._lag_ns -= by_ns

    def restart(self) -> None:
        """A new SSRC: RTP time starts elsewhere and new reports tell where. Still strictly rising."""
        self._unwrapped = None
        self._sender_step_ns = 0
        self.anchor = Anchor.NONE

    def estimate_ns(self, unwrapped: int) -> int:
        """Where a frame lies, without delivering it."""
        return self._place(unwrapped)

    def _anchor(self, unwrapped: int, at_ns: int, anchor: Anchor) -> None:
        self._base_rtp, self._base_ns = unwrapped, at_ns
        self._offset_ns = self._target_ns = 0.0
        self._slewed_rtp = unwrapped
        self.anchor = anchor
        if self._unwrapped is not None and anchor is Anchor.SENDER_REPORT:
            self._lag_ns = self._arrival_ns - self._place(self._unwrapped)

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
