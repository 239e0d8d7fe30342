"""Puts pictures that come when the page draws into the evenly spaced slots of a constant frame rate. Pure.

A page draws by its own clock, which is only nearly ours. If each picture were rounded to the nearest slot,
every second one would be lost while the pictures lie half-way between slots. So the phase follows the page: a
picture takes the next slot unless it is much too early or much too late compared with the page's own average.
Only when that average has moved by more than half a slot, one slot is repeated or one picture is left out. On
a busy machine the page draws irregularly. A picture that would lie far from its time is then left out or put
one slot later, because sound lies where it was heard.
"""

from dataclasses import dataclass

EARLY = 0.75
"""Part of a period. A picture that comes this much before its slot is superfluous, and waits for a newer
one."""
HELD_UNTIL = 0.25
"""Part of a period after the slot. If no newer picture has come by then, the waiting one is used."""
LATE = 0.95
"""Part of a period after the slot. If no picture has come by then, the last one is repeated."""
SLIP = 0.6
"""Part of a period. When the page's average phase is off by this much, the numbering slips by one slot."""
FOLLOW = 1 / 16
"""Weight of a picture in the average phase."""
FARTHEST = 0.9
"""Part of a period. No picture is shown earlier than this before it was drawn. It exceeds SLIP, so that a
page that draws evenly loses no picture."""
IDLE_SLOTS = 3
"""After this many repeats the page has stood still, and its phase is measured again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The picture is too early for the next slot: ask again at that time, or when a newer picture comes."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class Take:
    """Gives the picture this slot; slots in between repeat the previous one."""

    slot: int


class Pacer:
    """The slots of one recording. Slot 0 is taken at `origin_ns`. All times are of one monotonic clock."""

    def __init__(self, framerate: int, origin_ns: int) -> None:
        self.framerate = framerate
        self._origin_ns = origin_ns
        self._period_ns = 1e9 / framerate
        self._phase_ns = 0.0
        self._repeats = 0
        self.last = 0
        """The last slot that was given a picture, new or repeated."""

    def pts_ns(self, slot: int) -> int:
        """The PTS of a slot. Rounding errors do not add up."""
        return slot * 1_000_000_000 // self.framerate

    def picture(self, drawn_ns: int, now_ns: int) -> Take | Wait:
        """Decides about a picture drawn at `drawn_ns`. After a Wait, call it again with the same value."""
        following = self.last + 1
        if self._repeats >= IDLE_SLOTS:
            slot = max(following, round((drawn_ns - self._origin_ns) / self._period_ns))
            self._phase_ns = min(0.5 * self._period_ns, drawn_ns - self._nominal_ns(slot))
            self._repeats, self.last = 0, slot
            return Take(slot)
        if wait := self.wait(drawn_ns, now_ns):
            return wait
        if self._is_early(drawn_ns):
            self._repeats, self.last = 0, following
            return Take(following)
        late_ns = drawn_ns - self._nominal_ns(following) - self._phase_ns
        slot = following
        if late_ns > LATE * self._period_ns:  # this thread was held up
            slot += round(late_ns / self._period_ns)
        if drawn_ns - self._nominal_ns(slot) > FARTHEST * self._period_ns:
            slot += 1
        self._phase_ns += FOLLOW * (drawn_ns - self._nominal_ns(slot) - self._phase_ns)
        if self._phase_ns > SLIP * self._period_ns:
            self._phase_ns -= self._period_ns
            slot += 1
        elif self._phase_ns < -SLIP * self._period_ns:
            self._phase_ns += self._period_ns
        self._repeats, self.last = 0, slot
        return Take(slot)

    def wait(self, drawn_ns: int, now_ns: int) -> Wait | None:
        """The Wait that picture() would return, or None."""
        if self._repeats >= IDLE_SLOTS or not self._is_early(drawn_ns):
            return None
        until_ns = int(self._nominal_ns(self.last + 1) + self._phase_ns + HELD_UNTIL * self._period_ns)
        return Wait(until_ns) if now_ns < until_ns else None

    def due_ns(self) -> int:
        """When the next slot has to repeat the last picture, if none has come."""
        late_ns = min(self._phase_ns + LATE * self._period_ns, FARTHEST * self._period_ns)
        return int(self._nominal_ns(self.last + 1) + late_ns)

    def repeats(self, now_ns: int) -> range:
        """Slots that have to repeat the last picture by now."""
        first = self.last + 1
        while self.due_ns() <= now_ns:
            self.last += 1
            self._repeats += 1
        return range(first, self.last + 1)

    def before(self, pts_ns: int) -> range:
        """Slots before `pts_ns` of the timeline that have no picture yet."""
        first = self.last + 1
        self.last = max(self.last, (pts_ns * self.framerate - 1) // 1_000_000_000)
        return range(first, self.last + 1)

    def leave_out(self, time_ns: int) -> None:
        """Skips the time of a pause: the page's next picture takes the next slot, whatever its phase."""
        self._origin_ns += time_ns
        self._phase_ns = 0.0
        self._repeats = IDLE_SLOTS

    def until(self, end_ns: int) -> range:
        """Slots still to fill if the recording ends then."""
        first = self.last + 1
        slots = int((end_ns - self._origin_ns) / self._period_ns)
        self.last = max(self.last, slots)
        return range(first, self.last + 1)

    def _is_early(self, drawn_ns: int) -> bool:
        return drawn_ns - self._nominal_ns(self.last + 1) - self._phase_ns < -EARLY * self._period_ns

    def _nominal_ns(self, slot: int) -> float:
        return self._origin_ns + slot * self._period_ns
