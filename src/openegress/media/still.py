"""Which pictures of a stream an encoder need not see, because they repeat the one before. Pure.

The encoder gives pictures out in the order in which it takes them, some of them later. While nothing changes,
a repeated picture is put in behind the one it gave out last, as all that it still holds show the same. It
never learns that time has passed, so it encodes the pictures around as it would have done.

At a variable rate most of the repeats are not written either: the picture before them lasts.
"""

from collections import deque
from dataclasses import dataclass

from openegress.media.h264_skip import RepeatWriter

_SETTLED = 2
"""The encoder has given out so many repeats in a row that add nothing to the picture."""
_HEADERS_BYTES = 24
"""A repeat of the encoder's own that adds nothing is at most this much larger than ours: it may have two
slices."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One picture of the stream."""

    pts: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Taken:
    pts: int
    is_fresh: bool


class StillPictures:
    """Confined to one thread. PTS are ticks of the stream's time base."""

    def __init__(self, repeats: RepeatWriter, bits_a_tick: float, most_ticks: int = 0) -> None:
        """`bits_a_tick`: the ceiling that the encoder keeps to. `most_ticks`: how long a picture may last; 0:
        each repeat is written."""
        self._repeats = repeats
        self._most_ticks = most_ticks
        self._bits_a_tick = bits_a_tick
        self._small = repeats.size + _HEADERS_BYTES
        self._inside: deque[_Taken] = deque()
        """Pictures that were taken and not given out: as many as the encoder holds."""
        self._last_pts = 0
        self._written_pts = 0
        """Of the picture that was given out last."""
        self._skipped_pts: int | None = None
        """Of the last repeat, while it is not written."""
        self._unseen_ticks = 0
        """Of the time until now."""
        self._settled = 0
        self._owed_bits = 0.0
        """What the encoder believes it has spent of its ceiling. It must not be short of it for longer than
        without this."""

    @property
    def encoder_pts(self) -> int:
        """Of the picture that was taken last, as the encoder is to have it: without what it did not see."""
        return self._last_pts - self._unseen_ticks

    def take(self, pts: int, *, is_fresh: bool) -> list[Unit] | None:
        """What the stream goes on with where the encoder need not see the picture that is taken; None where
        it must. `is_fresh`: it differs from the one before, or has to be a key frame."""
        since, self._last_pts = pts - self._last_pts, pts
        self._inside.append(_Taken(pts, is_fresh))
        self._owed_bits = max(0.0, self._owed_bits - since * self._bits_a_tick)
        is_settled = self._settled >= _SETTLED and not self._owed_bits
        if not is_settled or any(each.is_fresh for each in self._inside):
            return None
        self._unseen_ticks += since
        due_pts = self._inside.popleft().pts
        units: list[Unit] = []
        if due_pts - self._written_pts > self._most_ticks:
            units = self.skipped()
        self._skipped_pts = due_pts
        return units if self._most_ticks else self.skipped()

    def skipped(self) -> list[Unit]:
        """The last repeat, where it has not been written: before another picture, and at the end. What comes
        before it lasts until then."""
        if self._skipped_pts is None:
            return []
        self._written_pts, self._skipped_pts = self._skipped_pts, None
        return [Unit(self._written_pts, self._repeats.repeat())]

    def give(self, data: bytes, *, is_key: bool) -> list[Unit]:
        """What goes into the stream with the picture that the encoder gives out."""
        units = self.skipped()
        taken = self._inside.popleft()
        adds_nothing = not taken.is_fresh and len(data) <= self._small
        self._settled = self._settled + 1 if adds_nothing else 0
        self._owed_bits += 8 * len(data)
        self._written_pts = taken.pts
        units.append(Unit(taken.pts, self._repeats.renumbered(data, is_key=is_key)))
        return units
