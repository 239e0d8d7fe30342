"""The participants' clocks compared, so that capture times of one room can be. Pure.

A sender report carries the publisher's own clock: LiveKit passes it through. Most clocks are set by NTP
and agree to some milliseconds; some are off by seconds or hours. Those are moved so that their frames
seem to have been captured when they arrived, as early as the quickest packet allows.

No clock is judged for good. An identity comes back on another device; a device that slept goes on where
its clock stood still; two crystals part by seconds a day. What tells is the least delay between capture and
arrival: any packet may be late, but not the quickest ones of many seconds all by the same. Delays are
arrival less capture, in ns.
"""

from collections import deque

S = 1_000_000_000
MS = 1_000_000

EARLIEST_NS = -100 * MS
"""A frame that arrives before it was captured: the clocks differ by this at least."""
LATEST_NS = 800 * MS
"""More than any path and encoder of a live call takes."""

HEARD_NS = 2 * S
"""A participant with a track that was heard within this time is still on the same device. Tracks are asked
once a second."""
SET_NS = -1 * S
"""A track that comes this much too early beside others tells that the clock was set forward. Less than that
is taken for drift (timeline.STEP_NS): they come to where their reports say."""

SLICE_NS = 1_500 * MS
"""A slice ends with the first observation after this: as they come once a second, it is 2 s long."""
SLICE_OBSERVATIONS = 2
"""At least; of a track that sends less than a frame a second, slices are longer."""
SLICES = 5
"""The window that a delay has to last, 10 s: longer than a bad path is just as bad."""
SETTLED_NS = 100 * MS
"""The least delays of all slices are within this: that of a queue that fills or drains is not."""
SLACK_NS = 100 * MS
"""By how much a path may become longer; the clock is not touched for it."""
TOO_LATE_NS = 1 * S
"""A delay above this is led back at once: what arrives later than 1.2 s after its capture is silent in a
transcoded recording."""
TOO_EARLY_NS = -300 * MS
"""So is one below this. No path explains it, so the clock was judged over a bad path, or was set; a cut in
the sound is better than to be late for half an hour."""
CREEP_NS = 1 * MS
"""The step for all else, once a slice, 0.5 ms a second: five times the worst drift of a crystal, and half of
what a recording of encoded sound can follow without a cut."""


class ParticipantClock:
    """Of one identity, whatever device is behind it. Shared by its tracks, so that they stay together.

    `at_ns` is a monotonic time of arrival.
    """

    def __init__(self) -> None:
        self.correction_ns = 0
        """To be added to what its sender reports say now."""
        self.moved_ns = 0
        """The sum of all moves of tracks that were placed already; each makes them when it sees them here."""
        self._judged_ns = 0
        """The correction before it was led after the delay."""
        self.usual_ns: int | None = None
        """The least delay to be expected, corrected. None: nothing is known yet."""
        self._heard_ns = 0
        self._minima: deque[int] = deque(maxlen=SLICES)
        """The least delay of each slice."""
        self._slice_began_ns = 0
        self._slice_least_ns = 0
        self._slice_observations = 0

    def judge(self, least_delay_ns: int, at_ns: int) -> int:
        """A track begins, or begins anew: the correction for it.

        `least_delay_ns` is the smallest one of the frames that have come, without any correction.
        """
        residual_ns = least_delay_ns - self.correction_ns
        heard = at_ns - self._heard_ns <= HEARD_NS
        self._heard_ns = at_ns
        if self.usual_ns is not None and (heard or _is_plausible(residual_ns)):
            # Where other tracks are in time, this one's path is to blame for its being late.
            if residual_ns < SET_NS:
                self._set(least_delay_ns - self.usual_ns)
            return self.correction_ns
        correction_ns = 0 if _is_plausible(least_delay_ns) else least_delay_ns
        self.moved_ns += correction_ns - self.correction_ns
        self.correction_ns = self._judged_ns = correction_ns
        self.usual_ns = least_delay_ns - correction_ns
        return correction_ns

    def set_by_sender(self, correction_ns: int) -> int:
        """The reports of a track tell that the sender set its clock: they need this correction from now on.

        Returns the one to use. The other tracks find it too, each with its own error of some milliseconds,
        and must not be apart by that.
        """
        if abs(correction_ns - self.correction_ns) > SETTLED_NS:
            self._set(correction_ns)
        return self.correction_ns

    def observe(self, delay_ns: int, at_ns: int) -> None:
        """The least delay, corrected, of a track since it was observed last; about once a second.

        The first one must come after a `judge`.
        """
        self._heard_ns = max(self._heard_ns, at_ns)
        if self._slice_observations >= SLICE_OBSERVATIONS and at_ns - self._slice_began_ns >= SLICE_NS:
            self._minima.append(self._slice_least_ns)
            self._slice_observations = 0
            self._lead()
        if not self._slice_observations:
            self._slice_began_ns, self._slice_least_ns = at_ns, delay_ns
        self._slice_observations += 1
        self._slice_least_ns = min(self._slice_least_ns, delay_ns)

    def _set(self, correction_ns: int) -> None:
        """For what reports say from now on. Tracks stay where they are, and learn it from their own."""
        self._judged_ns += correction_ns - self.correction_ns
        self.correction_ns = correction_ns

    def _lead(self) -> None:
        """Follows the delay where it has lasted."""
        assert self.usual_ns is not None
        least_ns = min(self._minima)
        if len(self._minima) < SLICES or max(self._minima) - least_ns > SETTLED_NS:
            return
        by_ns = least_ns - self.usual_ns
        led_ns = self.correction_ns - self._judged_ns
        if not TOO_EARLY_NS <= least_ns <= TOO_LATE_NS:
            self._minima.clear()
        elif by_ns > SLACK_NS:
            by_ns = CREEP_NS
        elif least_ns < EARLIEST_NS or (by_ns < -SLACK_NS and led_ns > 0):
            by_ns = -CREEP_NS
        else:
            by_ns = 0
            if led_ns <= 0:  # a quicker path than the one it was judged by
                self.usual_ns = min(self.usual_ns, least_ns)
        self.correction_ns += by_ns
        self.moved_ns += by_ns


class RoomClock:
    """The clocks of a room's participants. One per room; it lasts over re-joins."""

    def __init__(self) -> None:
        self._participants: dict[str, ParticipantClock] = {}

    def of(self, identity: str) -> ParticipantClock:
        return self._participants.setdefault(identity, ParticipantClock())


def _is_plausible(delay_ns: int) -> bool:
    return EARLIEST_NS <= delay_ns <= LATEST_NS
