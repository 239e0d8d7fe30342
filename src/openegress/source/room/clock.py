"""When a recording's pictures and blocks of samples are due. Pure: times come in.

The timeline is our clock less its reading at media time zero: the room client tells when a listener had each
frame.
"""

from openegress.core.units import S

CATCH_UP = 2
"""At most this many times real time: after a wait the encoder must not get more than it can take."""
MIN_STEP_NS = S
"""At most this much time is made up for at once, where the ticks are shorter. A thread that gets little CPU
must not fall behind unseen: what it cannot give out in time is left out (is_left_out)."""


MOST_SLOTS = 3
"""At once: the encoder's queue has room for them."""
LONGEST_WAIT_S = 0.1
"""A hiccup of half a second on top of it is still made up for without a loss (is_left_out)."""


class Slots:
    """The evenly spaced pictures, or blocks of samples, of a recording: number `n` is at n / rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.next = 0

    def at_ns(self, number: int) -> int:
        """From the number, never from a sum: rounding does not add up."""
        return number * S // self._rate

    @property
    def next_ns(self) -> int:
        return self.at_ns(self.next)


class Horizon:
    """Up to where the timeline is given out: at the pace of the encoder, and never back."""

    def __init__(self, tick_ns: int = 0) -> None:
        """`tick_ns`: how often it is advanced."""
        self.ns = 0
        self._step_ns = max(MIN_STEP_NS, tick_ns)
        self._moved_at_ns: int | None = None

    def advance(self, now_ns: int, complete_ns: int) -> int:
        """`now_ns`: what the timeline shows now; `complete_ns`: up to where nothing earlier is waited for."""
        wanted = min(now_ns, complete_ns)
        # What has been waited for until the first time is caught up with like all else.
        since = 0 if self._moved_at_ns is None else now_ns - self._moved_at_ns
        self._moved_at_ns = now_ns
        self.ns = max(self.ns, min(wanted, self.ns + CATCH_UP * max(0, min(since, self._step_ns))))
        return self.ns


SHEDDING = ((S * 8 // 10, 4), (S * 6 // 10, 2))
"""(behind by more than this, one picture of so many is given out)."""
MOST_BEHIND_NS = S
"""From here on none is given out: the end of a recording waits for all that waits, and a kill costs it."""


def is_left_out(number: int, behind_ns: int) -> bool:
    """Whether picture `number` is skipped because the encoder does not keep up. A hiccup of half a second is
    made up for without a loss."""
    if behind_ns > MOST_BEHIND_NS:
        return True
    return any(behind_ns > limit_ns and number % share != 0 for limit_ns, share in SHEDDING)


def slots_at_once(rate: int) -> int:
    """So many pictures are given out together where nobody waits for them: a thread that wakes up seldom, and
    then finds several packets or pictures, spends half as much on each. Every one still lies in its slot."""
    return max(1, min(MOST_SLOTS, int(LONGEST_WAIT_S * rate)))


class SlotPhase:
    """Where a camera's pictures fall between the slots of a recording of the same rate.

    Two clocks of one rate keep their distance. If that is close to zero, jitter puts a picture now before a
    slot and now behind it, so that pictures double and vanish. So the slots are read `bias_ns` later, at most
    one slot, which puts the pictures half way between. The bias is found anew only when they have drifted.
    """

    EDGE = 0.15
    """Of a slot: nearer than this to the next one, a picture may miss its own by jitter."""
    WANDERED = 15
    """Pictures in a row near an edge: half a second of them is not jitter."""

    def __init__(self, rate: int) -> None:
        self._period_ns = S // rate
        self._near_edge = 0
        self.bias_ns: int | None = None

    def observe(self, at_ns: int) -> None:
        """A picture captured at `at_ns` has come."""
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
