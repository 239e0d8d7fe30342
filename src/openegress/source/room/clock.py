"""When a recording's pictures and blocks of samples are due. Pure: times come in.

The timeline is the senders' capture clock less its reading at media time zero. The room client has brought
the participants' clocks together with ours, give or take a network's delay.
"""

from openegress.media import NS

CATCH_UP = 2
"""Times real time, at most: after a wait the encoder must not be handed more than it can take."""
MIN_STEP_NS = 70_000_000
"""Of time made up for at once, at most, where the ticks are shorter."""


class Slots:
    """The evenly spaced pictures, or blocks of samples, of a recording: number `n` is at n / rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.next = 0

    def at_ns(self, number: int) -> int:
        """From the number, never from a sum: rounding does not add up."""
        return number * NS // self._rate

    @property
    def next_ns(self) -> int:
        return self.at_ns(self.next)


class Horizon:
    """Up to where the timeline may be given out: as soon as nothing earlier can still come.

    A track that says nothing holds the others up for the patience and no longer.
    """

    def __init__(self, tick_ns: int = 0) -> None:
        """`tick_ns`: how often it is advanced."""
        self.ns = 0
        self._step_ns = max(MIN_STEP_NS, tick_ns)
        self._moved_at_ns: int | None = None

    def advance(self, now_ns: int, complete_ns: int, patience_ns: int, limit_ns: int) -> int:
        """`now_ns`: what the timeline shows now; `complete_ns`: up to where every track has been heard of;
        `limit_ns`: from where first frames are awaited, however long that takes."""
        wanted = min(now_ns, max(complete_ns, now_ns - patience_ns), limit_ns)
        since = now_ns if self._moved_at_ns is None else now_ns - self._moved_at_ns
        self._moved_at_ns = now_ns
        self.ns = max(self.ns, min(wanted, self.ns + CATCH_UP * max(0, min(since, self._step_ns))))
        return self.ns


SHEDDING = ((9 * NS, 16), (6 * NS, 4), (3 * NS, 2))
"""(behind by more than this, one picture of so many is given out)."""


def is_left_out(number: int, behind_ns: int) -> bool:
    """Whether picture `number` is skipped because the encoder does not keep up. What waits is encoded and
    small, so there is time to make up for a short lag without a loss; without a bound the end of a recording
    would wait for all of it.
    """
    return any(behind_ns > limit_ns and number % share != 0 for limit_ns, share in SHEDDING)


class Phase:
    """Where a camera's pictures fall between the slots of a recording of the same rate.

    Two clocks of one rate keep their distance. Where that is about nothing, jitter puts a picture now before
    a slot and now behind it, and pictures double and vanish; so the slots are read `bias_ns` later, at most
    one slot, which puts the pictures half way between. It is found anew only when they have wandered.
    """

    EDGE = 0.15
    """Of a slot: nearer than this to the next one, a picture may miss its own by jitter."""
    WANDERED = 15
    """Pictures in a row near an edge: half a second of them is no jitter."""

    def __init__(self, rate: int) -> None:
        self._period_ns = NS // rate
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
