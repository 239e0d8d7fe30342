"""Chooses how much effort an encoder spends on a picture, as the machine's spare time changes. Pure.

If pictures wait too long, the next faster speed applies at once. A slower one is tried after a long calm, and
only if it would leave time to spare. If it does not hold, the next try waits twice as long.
"""

from openegress.core.codecs import LIVE_SPEEDS, EncoderSpeed

WINDOW_S = 1.0
PRESSED = 0.1
"""Share of a window's pictures that met a full queue or were dropped, from which the machine had no time for
them."""
PRESSED_WINDOWS = 3
"""Number of such windows in a row that are not a hiccup."""
PRESSURE_SUM = 1.2
"""Sum of their shares that is no hiccup either: a machine that stalls for a second makes 1. It is reached
before media.overload drops every other picture."""
STEP_S = 2.0
"""Time between two steps down, so that waiting pictures get encoded and the new speed shows its effect."""
CALM_S = 30.0
"""How long without pressure before a slower speed is tried."""
LONGEST_CALM_S = 960.0
RELAPSE_S = 120.0
"""Shortest time that a speed must last: otherwise it is tried again only after twice the calm."""
MAX_LOAD_SHARE = 0.5
"""Limit for the share of time that a slower speed may take, estimated from the quicker one."""

SPEEDS = LIVE_SPEEDS
"""The speeds, quickest first."""
TIMES = {EncoderSpeed.ULTRAFAST: 1.0, EncoderSpeed.SUPERFAST: 1.25, EncoderSpeed.VERYFAST: 1.85}
"""Relative time for one picture (bench.speeds)."""


class SpeedChoice:
    """Chooses the speed for one recording. Times are monotonic seconds."""

    def __init__(self, speed: EncoderSpeed, now_s: float) -> None:
        self.speed = speed
        self._window_s = now_s
        self._offered = 0
        self._pressed = 0
        self._took_s = 0.0
        """Encoding time within the window."""
        self._shares: list[float] = []
        """Shares of consecutive pressed windows."""
        self._calm_since_s = now_s
        self._calm_s = CALM_S
        self._share = 1.0
        """The largest share of time spent on encoding in any window since calm began."""
        self._changed_s = -STEP_S
        self._slowed_s: float | None = None
        """When a slower speed was last tried."""

    def seen(self, now_s: float, *, offered: int, pressed: int, took_s: float) -> bool:
        """Updates the choice with the values since the last call: pictures offered, those that met a full
        queue or were dropped, and how long the encoder worked. Returns True if `speed` has changed."""
        self._offered += offered
        self._pressed += pressed
        self._took_s += took_s
        length_s = now_s - self._window_s
        if length_s < WINDOW_S:
            return False
        pressed_share, worked_share = self._pressed / max(1, self._offered), self._took_s / length_s
        self._window_s, self._offered, self._pressed, self._took_s = now_s, 0, 0, 0.0
        if pressed_share >= PRESSED:
            return self._pressed_window(now_s, pressed_share)
        return self._calm_window(now_s, worked_share)

    def _pressed_window(self, now_s: float, share: float) -> bool:
        self._calm_since_s, self._share = now_s, 0.0
        self._shares.append(share)
        at = SPEEDS.index(self.speed)
        is_hiccup = len(self._shares) < PRESSED_WINDOWS and sum(self._shares) < PRESSURE_SUM
        if is_hiccup or at == 0 or now_s - self._changed_s < STEP_S:
            return False
        if self._slowed_s is not None and now_s - self._slowed_s < RELAPSE_S:
            self._calm_s = min(LONGEST_CALM_S, 2 * self._calm_s)
        self._slowed_s = None
        return self._take(SPEEDS[at - 1], now_s)

    def _calm_window(self, now_s: float, share: float) -> bool:
        self._shares = []
        self._share = max(self._share, share)
        at = SPEEDS.index(self.speed)
        if at + 1 == len(SPEEDS) or now_s - self._calm_since_s < self._calm_s:
            return False
        slower = SPEEDS[at + 1]
        if self._share * TIMES[slower] / TIMES[self.speed] > MAX_LOAD_SHARE:
            # The hard part may be over: judge the following time by itself.
            self._calm_since_s, self._share = now_s, 0.0
            return False
        if self._slowed_s is not None and now_s - self._slowed_s >= RELAPSE_S:
            self._calm_s = CALM_S
        self._slowed_s = now_s
        return self._take(slower, now_s)

    def _take(self, speed: EncoderSpeed, now_s: float) -> bool:
        self.speed = speed
        self._shares = []
        self._changed_s = self._calm_since_s = now_s
        self._share = 0.0
        return True
