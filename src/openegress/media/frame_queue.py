"""Queues raw frames between a source's threads and the encoding thread, and chooses which pictures to drop.

When the encoder cannot keep up, pictures are dropped and counted (see media.overload); sound never is.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openegress.core.units import S
from openegress.media.overload import EncoderPace, LastPictures, Overload, PictureAges, Pressure, Rate
from openegress.media.resumptions import Resumption

if TYPE_CHECKING:
    import av

_log = logging.getLogger(__name__)

_QUEUED_FRAMES = 8
"""Limit for queued pictures: about a quarter of a second at 30 fps. It absorbs a hard frame, and bounds
memory to a dozen MiB at 720p. At low rates it is at most one second of pictures, but never fewer than two."""

_HELD_UNTIL_NS = S * 6 // 10
"""Age of a picture up to which its source is held back. Beyond it, the source would fall further behind with
everything still to come, and the picture needs the rest of MAX_WAITING_NS to get through the queue. A slow
encoder holds nothing back, because waiting for it does not help."""

_MAX_QUEUED_S = 0.4
"""How long a picture may wait while others come, before it is dropped. Otherwise sound and later pictures
would wait behind slow pictures, however few."""


_MANY_ITEMS = 16
"""Number of waiting items from which sound is encoded in larger pieces. So many wait only if the encoder is
behind, and each call takes a busy machine a millisecond, however short the sound."""
_JOINED = 25
"""Limit for pieces of sound that are encoded at once, as pictures wait for them."""


@dataclass(frozen=True, slots=True)
class QueuedPicture:
    frame: "av.VideoFrame"
    pts_ns: int
    since_s: float = 0.0
    """When it was queued."""


@dataclass(frozen=True, slots=True)
class QueuedSound:
    samples: bytes
    pts_ns: int
    sample_rate: int


Queued = QueuedPicture | QueuedSound | Resumption


class FrameQueue:
    """A queue that any thread fills and one empties."""

    def __init__(
        self,
        framerate: int | None,
        hold_s: float,
        now_ns: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`framerate`: None if no pictures are encoded. `hold_s`: how long put_picture() may hold back a
        source that can wait before it drops a picture; infinite: it drops none. `now_ns`: the time up to
        which the timeline is due. `clock`: monotonic seconds."""
        self._clock = clock
        self.overload = Overload(framerate, self._clock()) if framerate and not hold_s else None
        self._hold_s = hold_s
        self._ages = PictureAges(now_ns)
        self._most_queued = max(2, min(_QUEUED_FRAMES, framerate)) if framerate else _QUEUED_FRAMES
        self._most_queued_s = max(_MAX_QUEUED_S, 1 / framerate) if framerate else _MAX_QUEUED_S
        self._pace = EncoderPace(framerate)
        self._offered_ns = 0
        """PTS of the last picture offered, whether taken or dropped."""
        self._last_pictures = LastPictures()
        self._is_closed = False
        self._changed = threading.Condition()
        self._items: deque[Queued] = deque()
        self.pictures = 0
        """Number of pictures that wait."""
        self.dropped = 0
        """Number of pictures that were dropped."""
        self.pressure = Pressure()

    def put_picture(self, frame: "av.VideoFrame", pts_ns: int) -> None:
        with self._changed:
            self._offered_ns = pts_ns
            self.pressure.offered += 1
            if self._thins_out(pts_ns):
                self._leave_out()
                return
            self.pressure.pressed += self._is_full and not self._waits
            if self._waits:
                self._changed.wait_for(lambda: self._is_closed or not self._is_full)
            elif self._hold_s and self._is_full and not self._pace.is_slow:
                self._hold_back((_HELD_UNTIL_NS - self._ages.of(pts_ns)) / S)
            if self._is_closed:
                return
            if self._is_full or self._is_too_late(pts_ns):
                self._leave_out()
                return
            self.pictures += 1
            self._items.append(QueuedPicture(frame, pts_ns, self._clock()))
            self._changed.notify_all()

    def put_sound(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        with self._changed:
            if not self._is_closed:
                self._items.append(QueuedSound(samples, pts_ns, sample_rate))
                self._changed.notify_all()

    def put_resumption(self, resumption: Resumption) -> None:
        with self._changed:
            if not self._is_closed:
                self._items.append(resumption)
                self._changed.notify_all()

    def take(self) -> Queued | None:
        """Waits for the next item; None if the queue is closed and empty. A closed queue returns all sound,
        and as many pictures as there is time for."""
        with self._changed:
            self.pressure.worked_s += self._pace.asked(self._clock())
        while True:
            with self._changed:
                while not self._items:
                    if self._is_closed:
                        return None
                    self._changed.wait()
                item = self._items.popleft()
                if isinstance(item, QueuedSound):
                    return self._with_more(item)
                if not isinstance(item, QueuedPicture):
                    return item
                if self._is_late(item):
                    self._drop()
                    continue
                self._make_room()
                self._ages.given(item.pts_ns)
                self._pace.given(self._clock())
                return item

    def _with_more(self, sound: QueuedSound) -> QueuedSound:
        """Joins `sound` with the sound after it, up to the next picture that there is time for."""
        if len(self._items) < _MANY_ITEMS:
            return sound
        pieces = [sound.samples]
        while self._items and len(pieces) < _JOINED:
            match self._items[0]:
                case QueuedSound(samples, _, rate) if rate == sound.sample_rate:
                    self._items.popleft()
                    pieces.append(samples)
                case QueuedPicture() as picture if self._is_late(picture):
                    self._items.popleft()
                    self._drop()
                case _:
                    break
        return QueuedSound(b"".join(pieces), sound.pts_ns, sound.sample_rate)

    def _drop(self) -> None:
        """A picture has left the queue for want of time."""
        self._make_room()
        self.pressure.pressed += 1
        self._leave_out()

    def _make_room(self) -> None:
        self.pictures -= 1
        self._changed.notify_all()

    def _is_late(self, picture: QueuedPicture) -> bool:
        if self._waits:
            return False
        is_last = picture.pts_ns == self._offered_ns
        has_waited = not is_last and self._clock() - picture.since_s > self._most_queued_s
        return has_waited or self._is_too_late(picture.pts_ns)

    def expect_end(self) -> None:
        """Reports that the source has been told to stop: from now on there is little time for pictures.
        Idempotent."""
        with self._changed:
            self._last_pictures.expect_end(self._clock())
            self._changed.notify_all()

    def close(self) -> None:
        """Accepts no more items. Idempotent."""
        self.expect_end()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Accepts no more items, and drops those that wait."""
        self.close()
        with self._changed:
            self._items.clear()
            self._changed.notify_all()

    def _leave_out(self) -> None:
        self.dropped += 1
        self._last_pictures.left_out.note(self._clock())

    def _hold_back(self, most_s: float) -> None:
        """Waits until there is room for a picture, or no time left for it."""
        if most_s <= 0:
            return
        until_s = self._clock() + min(self._hold_s, most_s)
        while self._is_full and not self._is_closed:
            if not self._changed.wait(min(until_s, self._last_pictures.until_s) - self._clock()):
                return

    @property
    def ends_at_s(self) -> float:
        """Monotonic time until which the last pictures are encoded; infinite: no end is expected."""
        return math.inf if self._waits else self._last_pictures.until_s

    @property
    def _waits(self) -> bool:
        return math.isinf(self._hold_s)

    @property
    def _is_full(self) -> bool:
        return self.pictures >= self._most_queued

    def _is_too_late(self, pts_ns: int) -> bool:
        return self._clock() > self.ends_at_s or self._ages.is_too_old(pts_ns)

    def _thins_out(self, pts_ns: int) -> bool:
        """Whether to drop this picture so that the encoder keeps up with the other ones."""
        overload = self.overload
        if overload is None or not self.pressure.is_quickest:
            return False
        if not overload.takes(pts_ns):
            return True
        if overload.met(self._is_full, self._clock()):
            if overload.rate is Rate.HALF:
                _log.warning("the encoder cannot keep up: every other picture is left out")
            else:
                _log.info("the encoder gets every picture again")
        return False
