"""Computes when a recording's pictures and sample blocks are due. Pure: callers give times.

The timeline is our clock minus its reading at media time zero. The room client states when a listener had
each frame.
"""

from openegress.core.units import S
from openegress.media.overload import MAX_WAITING_NS

CATCH_UP = 2
"""Limit as a multiple of real time: after a wait the encoder must not get more than it can handle."""
MIN_STEP_NS = S
"""Limit for the time made up for at once, if ticks are shorter. A thread with little CPU must not fall behind
unnoticed: media that it cannot give out in time is dropped (is_left_out)."""


MAX_SLOTS = 3
"""Limit for the slots at once: the encoder's queue has room for them."""
LONGEST_WAIT_S = 0.1
"""Longest time between two outputs, at any frame rate. A hiccup of half a second on top of it is still made
up for without loss (is_left_out)."""


class Slots:
    """The evenly spaced pictures or sample blocks of a recording: number `n` is at n / rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.next = 0

    def at_ns(self, number: int) -> int:
        """The time of a slot. It is computed from the number, never from a sum, so that rounding errors do
        not add up."""
        return number * S // self._rate

    @property
    def next_ns(self) -> int:
        return self.at_ns(self.next)


class DueLine:
    """The time up to which a recording is due: now, or less while it catches up after a wait for the room."""

    def __init__(self) -> None:
        self._from_ns = (0, 0)
        """When the recording began or continued, and at which time of its own."""

    def begin(self, now_ns: int, recorded_ns: int) -> None:
        """The recording begins or continues now, with the media at `recorded_ns` of its own time."""
        self._from_ns = (now_ns, recorded_ns)

    def at(self, now_ns: int, recorded_ns: int) -> int:
        """The time up to which it is due. `recorded_ns`: the recording's time now, had there been no wait."""
        began_ns, from_ns = self._from_ns
        return min(recorded_ns, from_ns + CATCH_UP * (now_ns - began_ns))


class Horizon:
    """The end of the timeline given out so far: it moves at the encoder's pace, and never back."""

    def __init__(self, tick_ns: int = 0) -> None:
        """`tick_ns`: interval between calls of advance()."""
        self.ns = 0
        self._step_ns = max(MIN_STEP_NS, tick_ns)
        self._moved_at_ns: int | None = None

    def advance(self, due_ns: int, complete_ns: int) -> int:
        """Moves the end, and returns it. `due_ns`: up to where the timeline is due; `complete_ns`: nothing
        earlier is still expected."""
        wanted = min(due_ns, complete_ns)
        # The wait until the first call is caught up like any other.
        since = 0 if self._moved_at_ns is None else due_ns - self._moved_at_ns
        self._moved_at_ns = due_ns
        reached = self.ns + CATCH_UP * max(0, min(since, self._step_ns))
        # Older pictures are dropped anyway.
        self.ns = max(self.ns, min(wanted, max(reached, due_ns - MAX_WAITING_NS)))
        return self.ns


SHEDDING = ((0.8, 4), (0.6, 2))
"""Pairs (share of the time that is used up, n): one picture in n is given out then."""


def is_left_out(number: int, age_ns: int, awaited_ns: int) -> bool:
    """Whether to skip picture `number` because the machine does not keep up. `awaited_ns`: the part of its
    age in which media was awaited; the machine has the rest of MAX_WAITING_NS. If nothing was awaited, a
    hiccup of half a second is made up for without loss."""
    if age_ns > MAX_WAITING_NS:
        return True
    behind_ns, time_ns = age_ns - awaited_ns, MAX_WAITING_NS - awaited_ns
    return any(behind_ns > used * time_ns and number % share != 0 for used, share in SHEDDING)


def slots_at_once(rate: int) -> int:
    """How many pictures are given out together if nobody waits for them: a thread that wakes up rarely, and
    then finds several packets or pictures, spends half as much on each. Each still gets its own slot."""
    return max(1, min(MAX_SLOTS, int(LONGEST_WAIT_S * rate)))


class SlotPhase:
    """The phase of a camera's pictures between a recording's slots of the same rate.

    Two clocks of one rate keep their distance. If that is close to zero, jitter moves a picture before or
    after its slot, so that pictures double and vanish. So the slots are read `bias_ns` later, by at most one
    slot, which centres the pictures. The bias changes only when they have drifted.
    """

    EDGE = 0.15
    """Share of a slot: a picture that is closer than this to another slot may miss its own by jitter."""
    WANDERED = 15
    """Limit for consecutive pictures near an edge: half a second of them is not jitter."""

    def __init__(self, rate: int) -> None:
        self._period_ns = S // rate
        self._near_edge = 0
        self.bias_ns: int | None = None

    def observe(self, at_ns: int) -> None:
        """Takes the time of a picture, captured at `at_ns`."""
        if self.bias_ns is None:
            self._centre(at_ns)
            return
        behind = (at_ns - self.bias_ns) % self._period_ns / self._period_ns
        self._near_edge = self._near_edge + 1 if not self.EDGE <= behind <= 1 - self.EDGE else 0
        if self._near_edge >= self.WANDERED:
            self._centre(at_ns)

    def _centre(self, at_ns: int) -> None:
        self.bias_ns = (at_ns - self._period_ns // 2) % self._period_ns
        self._near_edge = 0
