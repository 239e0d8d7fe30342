"""Which pictures of a stream an encoder need not see, because they repeat the one before. Pure.

The encoder gives pictures out in the order in which it takes them, some of them later. While nothing changes,
a repeated picture is put in behind the one it gave out last, as all that it still holds show the same. It
never learns that time has passed, so it encodes the pictures around as it would have done.
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

    def __init__(self, repeats: RepeatWriter, bits_a_tick: float) -> None:
        """`bits_a_tick`: the ceiling that the encoder keeps to."""
        self._repeats = repeats
        self._bits_a_tick = bits_a_tick
        self._small = repeats.size + _HEADERS_BYTES
        self._inside: deque[_Taken] = deque()
        """Pictures that were taken and not given out: as many as the encoder holds."""
        self._last_pts = 0
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

    def take(self, pts: int, *, is_fresh: bool) -> Unit | None:
        """The picture with which the stream goes on where the encoder need not see the one that is taken;
        None where it must. `is_fresh`: it differs from the one before, or has to be a key frame."""
        since, self._last_pts = pts - self._last_pts, pts
        self._inside.append(_Taken(pts, is_fresh))
        self._owed_bits = max(0.0, self._owed_bits - since * self._bits_a_tick)
        is_settled = self._settled >= _SETTLED and not self._owed_bits
        if not is_settled or any(each.is_fresh for each in self._inside):
            return None
        self._unseen_ticks += since
        return Unit(self._inside.popleft().pts, self._repeats.repeat())

    def give(self, data: bytes, *, is_key: bool) -> Unit:
        """The picture that the encoder gives out, as it goes into the stream."""
        taken = self._inside.popleft()
        adds_nothing = not taken.is_fresh and len(data) <= self._small
        self._settled = self._settled + 1 if adds_nothing else 0
        self._owed_bits += 8 * len(data)
        return Unit(taken.pts, self._repeats.renumbered(data, is_key=is_key))
