"""Decides which pictures an encoder need not see because they repeat the one before. Pure.

The encoder returns pictures in the order it takes them, some of them later. While nothing changes, a repeat
is inserted after the last picture it returned, because everything it still holds looks the same. It never
learns that time has passed, so it encodes the surrounding pictures as usual.

A key frame of an unchanged picture is the last key frame again, with what the encoder added to it. Inserting
it needs enough repeats after it, so it waits for those.

At a variable rate most repeats are not written either: the picture before them lasts.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from openegress.media.h264_skip import RepeatWriter

_SETTLED = 2
"""Number of repeats in a row that the encoder must have returned without adding anything to the picture."""
_HEADERS_BYTES = 24
"""Limit by which an encoder's repeat that adds nothing exceeds ours: it may have two slices."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One picture of the stream."""

    pts: int
    data: bytes
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """A picture for the encoder. Its time omits the pictures that the encoder did not see."""

    pts: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a picture that was taken."""

    units: tuple[Unit, ...] = ()
    """The pictures that continue the stream."""
    inputs: tuple[Input, ...] = ()
    """The pictures that the encoder has to see. The last one is the picture that was taken; others show the
    one before."""


@dataclass(frozen=True, slots=True)
class _Taken:
    pts: int
    is_new: bool = False
    """Whether it differs from the one before."""
    is_key: bool = False

    @property
    def is_fresh(self) -> bool:
        return self.is_new or self.is_key


class StillPictures:
    """Decides which pictures of a stream the encoder sees. Confined to one thread. PTS are ticks of the
    stream's time base."""

    def __init__(
        self, repeats: RepeatWriter, bits_a_tick: float, most_ticks: int = 0, patience_ticks: int = 0
    ) -> None:
        """`bits_a_tick`: the encoder's ceiling. `most_ticks`: how long a picture may last; 0: every repeat is
        written. `patience_ticks`: how long a key frame may wait."""
        self._repeats = repeats
        self._bits_a_tick = bits_a_tick
        self._most_ticks = most_ticks
        self._patience_ticks = patience_ticks
        self._small = repeats.size + _HEADERS_BYTES
        self._inside: deque[_Taken] = deque()
        """Pictures that were taken and not returned: as many as the encoder holds."""
        self._waiting: deque[_Taken] = deque()
        """A key frame that the encoder has not seen, and the repeats after it."""
        self._still = _StillKeyFrame(repeats)
        self._seen_pts = 0
        """PTS of the picture before the one that waits."""
        self._last_pts = 0
        self._written_pts = 0
        """PTS of the last picture that was returned."""
        self._skipped_pts: deque[int] = deque(maxlen=2)
        """PTS of the last repeats that are not written yet."""
        self._unseen_ticks = 0
        """Total time so far that the encoder did not see."""
        self._settled = 0
        self._owed_bits = 0.0
        """What the encoder believes it has spent of its ceiling. Skipping must not keep it short of bits for
        longer than usual."""

    @property
    def inside(self) -> int:
        """Number of pictures taken that have not come out."""
        return len(self._inside) + len(self._waiting)

    def take(self, pts: int, *, is_new: bool, is_key: bool) -> Step:
        """Takes a picture. `is_new`: it differs from the one before. `is_key`: it must be a key frame."""
        since, self._last_pts = pts - self._last_pts, pts
        self._owed_bits = max(0.0, self._owed_bits - since * self._bits_a_tick)
        taken = _Taken(pts, is_new, is_key)
        if self._waiting:
            return self._wait(taken)
        if is_new or not self._is_settled:
            return self._see([taken])
        if is_key:
            lasts_ticks = (len(self._inside) + self._still.length) * since
            if not self._still.is_known or lasts_ticks > self._patience_ticks:
                return self._see([taken])
            self._waiting.append(taken)
            self._seen_pts = pts - since
            return Step()
        self._unseen_ticks += since
        self._inside.append(taken)
        return Step(tuple(self._repeat(self._inside.popleft().pts)))

    def give(self, data: bytes, *, is_key: bool) -> list[Unit]:
        """Returns what goes into the stream with the encoder's next picture."""
        units = self._skipped()
        taken = self._inside.popleft()
        adds_nothing = not taken.is_fresh and len(data) <= self._small
        self._settled = self._settled + 1 if adds_nothing else 0
        self._owed_bits += 8 * len(data)
        self._still.note(data, is_new=taken.is_new, is_key=is_key, is_settled=self._settled >= _SETTLED)
        self._written_pts = taken.pts
        units.append(Unit(taken.pts, self._repeats.renumbered(data, is_key=is_key), is_key))
        return units

    def end(self) -> list[Unit] | None:
        """Returns the end of the stream, which makes the pictures that the encoder holds useless; None if the
        encoder has to provide the end."""
        if not self._is_settled:
            return None
        shown, self._inside = self._inside, deque()
        units = [unit for each in shown for unit in self._repeat(each.pts)]
        return units + self._again() + self._skipped()

    def rest(self) -> list[Unit]:
        """Returns what follows the encoder's last picture."""
        return self._skipped()

    @property
    def _is_settled(self) -> bool:
        """Whether the encoder holds only what the stream shows, and has nothing to add."""
        is_refined = self._settled >= _SETTLED and not self._owed_bits
        return is_refined and not any(each.is_fresh for each in self._inside)

    def _see(self, taken: Iterable[_Taken]) -> Step:
        taken = tuple(taken)
        self._inside += taken
        return Step(inputs=tuple(Input(each.pts - self._unseen_ticks, each.is_key) for each in taken))

    def _wait(self, taken: _Taken) -> Step:
        """Waits with a key frame. It is inserted once there is room after it for everything the encoder added
        to it, and for as many pictures as the encoder holds."""
        self._waiting.append(taken)
        if taken.is_fresh:
            waiting, self._waiting = self._waiting, deque()
            return self._see(waiting)
        if len(self._waiting) < self._still.length + len(self._inside):
            return Step()
        before, self._inside = self._inside, deque()
        units = [unit for each in before for unit in self._repeat(each.pts)]
        self._unseen_ticks += taken.pts - self._seen_pts
        behind = deque(self._waiting.pop() for _ in before)
        units += self._again()
        self._inside.extend(reversed(behind))
        return Step(tuple(units))

    def _again(self) -> list[Unit]:
        """Returns the waiting key frame, and what the encoder added to it, in the waiting slots."""
        slots, self._waiting = self._waiting, deque()
        if not slots:
            return []
        units = self._skipped()
        for number, slot in enumerate(slots):
            if number < self._still.length:
                units.append(Unit(slot.pts, self._still.unit(number), is_key=not number))
                self._written_pts = slot.pts
            else:
                units += self._repeat(slot.pts)
        return units

    def _repeat(self, pts: int) -> list[Unit]:
        units: list[Unit] = []
        if self._skipped_pts and pts - self._written_pts > self._most_ticks:
            units = [self._written(self._skipped_pts.pop())]
            self._skipped_pts.clear()
        self._skipped_pts.append(pts)
        return units if self._most_ticks else self._skipped()

    def _skipped(self) -> list[Unit]:
        """Returns the last two repeats, if they are not written yet: before another picture, and at the end.
        The picture before them lasts until then. If no container states how long the last picture of a
        segment lasts, players assume the length of the one before."""
        units = [self._written(pts) for pts in self._skipped_pts]
        self._skipped_pts.clear()
        return units

    def _written(self, pts: int) -> Unit:
        self._written_pts = pts
        return Unit(pts, self._repeats.repeat())


class _StillKeyFrame:
    """The last key frame, and what the encoder added while nothing changed."""

    def __init__(self, repeats: RepeatWriter) -> None:
        self._repeats = repeats
        self._units: list[bytes] = []
        """The key frame and the pictures after it, as the encoder returned them."""
        self.is_known = False
        """Whether the picture has not changed since, and `_units` show it completely."""

    @property
    def length(self) -> int:
        return len(self._units)

    def note(self, data: bytes, *, is_new: bool, is_key: bool, is_settled: bool) -> None:
        """Notes a picture that the encoder returns. `is_settled`: this one and the one before add nothing."""
        if is_key:
            self._units, self.is_known = [data], False
        elif is_new or not self._units:
            self._units, self.is_known = [], False
        elif not (self.is_known and is_settled and self._repeats.are_alike(data, self._units[-1])):
            self._units.append(data)
            self.is_known = is_settled

    def unit(self, number: int) -> bytes:
        return self._repeats.again(self._units[number], is_key=not number)
