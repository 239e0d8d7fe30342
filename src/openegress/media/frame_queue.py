"""Raw frames between the threads of a source and the one that encodes, and which pictures are left out.

When the encoder cannot keep up, pictures are left out and counted (see media.overload); sound never is.
"""

import logging
import math
import threading
import time
from collections import deque
from dataclasses import dataclass

import av

from openegress.core.units import S
from openegress.media.overload import Lag, Overload, Rate
from openegress.media.resumptions import Resumption

_log = logging.getLogger(__name__)

_QUEUED_FRAMES = 8
"""About a quarter second at 30 fps: it absorbs a hard frame, and bounds memory to a dozen MiB at 720p. At low
rates it is at most one second of pictures, but never less than two."""

_HELD_BEHIND_NS = S // 2
"""A source that is this far behind is not held back any more: it would fall behind further, with all that it
has yet to give."""

_LAST_PICTURES_S = 0.25
"""The time for encoding what waits at the end. A slower machine leaves the rest out, as whoever stops a
recording waits for it."""


@dataclass(frozen=True, slots=True)
class QueuedPicture:
    frame: av.VideoFrame
    pts_ns: int


@dataclass(frozen=True, slots=True)
class QueuedSound:
    samples: bytes
    pts_ns: int
    sample_rate: int


Queued = QueuedPicture | QueuedSound | Resumption


class FrameQueue:
    """Filled by any thread, emptied by one."""

    def __init__(self, framerate: int | None, hold_s: float) -> None:
        """`framerate`: None where no pictures are encoded. `hold_s`: how long put_picture() may hold back a
        source that can wait, before a picture is left out; infinite: none is, whatever it takes."""
        self.overload = Overload(framerate, time.monotonic()) if framerate and not hold_s else None
        self._hold_s = hold_s
        self._most_queued = max(2, min(_QUEUED_FRAMES, framerate)) if framerate else _QUEUED_FRAMES
        self._lag = Lag()
        self._closed_at_s: float | None = None
        self._changed = threading.Condition()
        self._items: deque[Queued] = deque()
        self.pictures = 0
        """That wait."""
        self.dropped = 0
        """Pictures that were left out."""

    def put_picture(self, frame: av.VideoFrame, pts_ns: int) -> None:
        with self._changed:
            if self._thins_out(pts_ns):
                self.dropped += 1
                return
            behind_ns = self._lag.at(pts_ns, time.monotonic_ns())
            if self._hold_s and self._is_full and (self._waits or behind_ns < _HELD_BEHIND_NS):
                limit_s = None if self._waits else self._hold_s
                self._changed.wait_for(lambda: self._is_closed or not self._is_full, limit_s)
            if self._is_closed:
                return
            if self._is_full:
                self.dropped += 1
                return
            self.pictures += 1
            self._items.append(QueuedPicture(frame, pts_ns))
            self._changed.notify_all()

    def put_sound(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        with self._changed:
            if not self._is_closed:
                self._items.append(QueuedSound(samples, pts_ns, sample_rate))
                self._changed.notify_all()

    def put_resumption(self, resumption: Resumption) -> None:
        """Pictures come again, on a timeline that stood still: they are not late by the time that it did."""
        with self._changed:
            if not self._is_closed:
                self._lag = Lag()
                self._items.append(resumption)
                self._changed.notify_all()

    def take(self) -> Queued | None:
        """Waits for the next item; None: the queue is closed and empty. Of a closed queue it gives all sound,
        and as many pictures as there is time for."""
        while True:
            with self._changed:
                while not self._items:
                    if self._is_closed:
                        return None
                    self._changed.wait()
                item = self._items.popleft()
                if not isinstance(item, QueuedPicture):
                    return item
                self.pictures -= 1
                self._changed.notify_all()
                if not self._is_too_late:
                    return item
                self.dropped += 1

    def close(self) -> None:
        """Takes nothing more. Idempotent."""
        with self._changed:
            if self._closed_at_s is None:
                self._closed_at_s = time.monotonic()
            self._changed.notify_all()

    def abandon(self) -> None:
        """Takes nothing more, and drops what waits."""
        self.close()
        with self._changed:
            self._items.clear()
            self._changed.notify_all()

    @property
    def _is_closed(self) -> bool:
        return self._closed_at_s is not None

    @property
    def _waits(self) -> bool:
        return math.isinf(self._hold_s)

    @property
    def _is_full(self) -> bool:
        return self.pictures >= self._most_queued

    @property
    def _is_too_late(self) -> bool:
        if self._waits:
            return False
        return self._closed_at_s is not None and time.monotonic() - self._closed_at_s > _LAST_PICTURES_S

    def _thins_out(self, pts_ns: int) -> bool:
        """Whether this picture is left out so that the encoder keeps up with the others."""
        overload = self.overload
        if overload is None:
            return False
        if not overload.takes(pts_ns):
            return True
        if overload.met(self._is_full, time.monotonic()):
            if overload.rate is Rate.HALF:
                _log.warning("the encoder cannot keep up: every other picture is left out")
            else:
                _log.info("the encoder gets every picture again")
        return False
