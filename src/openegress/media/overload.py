"""Chooses which pictures to drop if a machine has no time for all. Pure.

A picture may wait for a limited time between its moment and the encoder, wherever that is. While the encoder
cannot keep up, every other picture is dropped, evenly: a full queue also drops pictures, but in clumps, at
full load, and with the full delay of the queue.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import median

from openegress.core.units import S

MAX_WAITING_NS = S
"""Age at which a picture is dropped when it would be drawn or encoded. It counts from the picture's moment on
the timeline, so that all waits before the encoder share this second: for tracks, for the drawing thread, in
the queue. A kill costs it, and a stop would wait for it."""

WINDOW_S = 1.0
PRESSED = 0.25
"""Share of a window's pictures that meet a full queue, from which the encoder counts as overloaded. Below it,
dropping single pictures loses fewer."""
PRESSED_WINDOWS = 5
"""Number of such windows in a row that are neither a hard scene nor a hiccup."""
CALM_S = 20.0
"""How long without overload before the full rate is tried again."""
LONGEST_CALM_S = 320.0
RELAPSE_S = 60.0
"""If the encoder is overloaded again within this time, the next try waits twice as long."""

LAST_PICTURES_S = 0.4
"""Time after the stop for drawing and encoding what waits. A slower machine drops the rest, because the user
who stops a recording waits for it."""
MANY = 5
RECENT_S = 1.0
"""If many pictures were dropped within this time before the stop, there is no time for any."""


class PictureAges:
    """Measures how long pictures have waited when an encoder would get them."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """`now_ns`: the time up to which the timeline is due."""
        self._now_ns = now_ns
        self._given_ns = -S

    def of(self, pts_ns: int) -> int:
        return self._now_ns() - pts_ns

    def is_too_old(self, pts_ns: int) -> bool:
        """Whether to drop a picture because it waited too long. An encoder gets one picture a second in any
        case, as a very slow one would never get any."""
        return self.of(pts_ns) > MAX_WAITING_NS and pts_ns - self._given_ns < S

    def given(self, pts_ns: int) -> None:
        """Notes that the encoder gets a picture."""
        self._given_ns = pts_ns


_PACE_SAMPLES = 5
"""Pictures whose median is the encoder's pace, so that one hard picture, or one stall of the machine, does
not make a slow encoder."""
_SLOW_S = 0.15
"""Time for a picture that is slow at any frame rate."""


@dataclass(slots=True)
class Pressure:
    """Counts a recording's pictures so far."""

    offered: int = 0
    pressed: int = 0
    """Pictures that met a full queue, or were dropped because they waited too long."""
    worked_s: float = 0.0
    """Time the encoder took for the pictures it saw."""
    is_quickest: bool = True
    """Whether the encoder cannot go quicker: pictures it has no time for must be dropped."""


class EncoderPace:
    """Measures whether the encoder takes more than twice the time it has. Times are monotonic seconds."""

    def __init__(self, framerate: int | None) -> None:
        self._slow_s = min(_SLOW_S, 2 / framerate) if framerate else _SLOW_S
        self._took_s: deque[float] = deque(maxlen=_PACE_SAMPLES)
        """Time for each of the last pictures."""
        self._given_at_s: float | None = None
        """When the encoder got its current picture; None: it has none."""

    def given(self, now_s: float) -> None:
        """Notes that the encoder gets a picture."""
        self._given_at_s = now_s

    def asked(self, now_s: float) -> float:
        """Notes that the encoder is done and asks for more. Returns how long it took."""
        if self._given_at_s is None:
            return 0.0
        took_s = now_s - self._given_at_s
        self._took_s.append(took_s)
        self._given_at_s = None
        return took_s

    @property
    def is_slow(self) -> bool:
        return len(self._took_s) > _PACE_SAMPLES // 2 and median(self._took_s) > self._slow_s


class LeftOutPictures:
    """Finds whether many pictures were dropped lately. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._last_s: deque[float] = deque(maxlen=MANY)

    def note(self, at_s: float) -> None:
        self._last_s.append(at_s)

    def are_many(self, at_s: float) -> bool:
        return len(self._last_s) == MANY and at_s - self._last_s[0] <= RECENT_S


class LastPictures:
    """Holds the time until which the last waiting pictures are encoded. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.left_out = LeftOutPictures()
        self.until_s = math.inf

    def expect_end(self, now_s: float) -> None:
        """Notes that the recording is being stopped. Idempotent."""
        if self.until_s == math.inf:
            self.until_s = now_s + (0.0 if self.left_out.are_many(now_s) else LAST_PICTURES_S)


class Rate(Enum):
    FULL = "full"
    HALF = "half"


class Overload:
    """Sees each picture and decides which to take. Times are monotonic seconds."""

    def __init__(self, framerate: int, now_s: float) -> None:
        self._least_ns = round(1.5 * S / framerate)
        """Shortest time between two pictures at half the rate: two frames, minus the error of a timestamp."""
        self.rate = Rate.FULL
        self._taken_ns: int | None = None
        self._window_s = now_s
        self._seen = 0
        self._full = 0
        self._pressed_windows = 0
        self._calm_since_s = now_s
        self._calm_s = CALM_S
        self._restored_s: float | None = None

    def takes(self, pts_ns: int) -> bool:
        since_ns = None if self._taken_ns is None else pts_ns - self._taken_ns
        if self.rate is Rate.HALF and since_ns is not None and 0 <= since_ns < self._least_ns:
            return False
        self._taken_ns = pts_ns
        return True

    def met(self, is_full: bool, now_s: float) -> bool:
        """Reports whether a picture that was taken met a full queue. Returns True if the rate has changed."""
        self._seen += 1
        self._full += is_full
        if now_s - self._window_s < WINDOW_S:
            return False
        pressed = self._full >= PRESSED * self._seen
        self._window_s, self._seen, self._full = now_s, 0, 0
        return self._window_ended(pressed, now_s)

    def _window_ended(self, pressed: bool, now_s: float) -> bool:
        if pressed:
            self._pressed_windows += 1
            self._calm_since_s = now_s
        else:
            self._pressed_windows = 0
        if self.rate is Rate.FULL and self._pressed_windows >= PRESSED_WINDOWS:
            relapsed = self._restored_s is not None and now_s - self._restored_s < RELAPSE_S
            self._calm_s = min(LONGEST_CALM_S, self._calm_s * 2) if relapsed else CALM_S
            self.rate = Rate.HALF
            return True
        if self.rate is Rate.HALF and now_s - self._calm_since_s >= self._calm_s:
            self.rate = Rate.FULL
            self._restored_s = now_s
            self._pressed_windows = 0
            return True
        return False
