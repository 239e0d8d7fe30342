"""Chooses the picture for each slot: the page, its last picture, or a card during a pause."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

import av

from openegress.core.pause_mode import PauseMode
from openegress.media import FrameSink
from openegress.source import SourceStats
from openegress.source.web.pacing import Pacer, Wait

Card = Callable[[int, int], av.VideoFrame]
"""Draws the picture that is shown while a pause is held; takes its width and height."""


class Screen(Protocol):
    """The captured display; see Framebuffer."""

    width: int
    height: int

    def grab(self) -> av.VideoFrame: ...

    def drawn_meanwhile(self) -> int | None:
        """When the page drew during the last grab, which may then hold parts of two pictures; None: it did
        not."""


MAX_GRABS = 3
"""Limit for attempts to grab a picture that is whole and of its time, while the page draws."""


class _Shows(Enum):
    PAGE = auto()
    CARD = auto()
    NOTHING = auto()


class Filming:
    """Films one display. Only the thread of its VideoCapture uses it. Times are ns of the monotonic clock."""

    def __init__(self, sink: FrameSink, screen: Screen, pacer: Pacer, card: Card) -> None:
        """Records the first picture."""
        self._sink = sink
        self._screen = screen
        self._pacer = pacer
        self._card = card
        self._shows = _Shows.PAGE
        self._frame: av.VideoFrame | None = None
        """The last picture; None: it is out of date."""
        self._drawn_ns = 0
        """When the waiting picture was drawn; 0: none waits."""
        self._left_out_ns = 0
        self.stats = SourceStats()
        self._grab(0)

    @property
    def is_paused(self) -> bool:
        return self._shows is not _Shows.PAGE

    @property
    def next_ns(self) -> int:
        """The next slot, in the recording's time."""
        return self._pacer.pts_ns(self._pacer.last + 1)

    def drawn(self, at_ns: int) -> None:
        """Call it when the page has drawn a picture."""
        if self.is_paused:
            return
        if self._drawn_ns:
            self._count(0, 0, 1)
        self._drawn_ns = at_ns

    def fill(self, now_ns: int) -> int | None:
        """Fills the slots that are due. Returns when to call it again; None: only when something happens."""
        if self._shows is _Shows.NOTHING:
            return None
        pacer = self._pacer
        if not self._drawn_ns:
            self._repeat(pacer.repeats(now_ns))
            return pacer.due_ns()
        frame: av.VideoFrame | None = None
        for _ in range(MAX_GRABS):
            if wait := pacer.wait(self._drawn_ns, now_ns):
                return wait.until_ns
            frame = self._screen.grab()
            newer_ns = self._screen.drawn_meanwhile()
            if newer_ns is None:
                break
            self.drawn(newer_ns)
            frame = None
        filled = pacer.last
        decision = pacer.picture(self._drawn_ns, now_ns)
        if isinstance(decision, Wait):
            return decision.until_ns
        self._repeat(range(filled + 1, decision.slot))
        self._show(frame or self._screen.grab(), decision.slot)
        return pacer.due_ns()

    def pause(self, mode: PauseMode, at_ns: int) -> None:
        """Stops showing the page from `at_ns` of the recording's time."""
        slots = self._pacer.before(at_ns)
        if slots and self._drawn_ns:
            self._repeat(slots[:-1])
            self._grab(slots[-1])
        else:
            self._repeat(slots)
        self._drawn_ns = 0
        if mode is PauseMode.HOLD:
            self._frame = self._card(self._screen.width, self._screen.height)
            self._count(0, 1, 0)
            self._shows = _Shows.CARD
        else:
            self._shows = _Shows.NOTHING

    def resume(self, left_out_ns: int) -> None:
        """Shows the page again. `left_out_ns`: the length of all pauses that the recording leaves out."""
        self._pacer.leave_out(left_out_ns - self._left_out_ns)
        self._left_out_ns = left_out_ns
        self._frame = None
        self._shows = _Shows.PAGE

    def end(self, end_ns: int) -> None:
        if self._shows is not _Shows.NOTHING:
            self._repeat(self._pacer.until(end_ns))

    def _grab(self, slot: int) -> None:
        self._show(self._screen.grab(), slot)

    def _show(self, frame: av.VideoFrame, slot: int) -> None:
        self._frame = frame
        self._drawn_ns = 0
        self._sink.video(frame, self._pacer.pts_ns(slot))
        self._count(1, 1, 0)

    def _repeat(self, slots: range) -> None:
        for slot in slots:
            if self._frame is None:
                self._frame = self._screen.grab()
                self._count(0, 1, 0)
            self._sink.video(self._frame, self._pacer.pts_ns(slot))
        self._count(len(slots), 0, 0)

    def _count(self, frames: int, unique: int, dropped: int) -> None:
        s = self.stats
        self.stats = SourceStats(s.frames + frames, s.unique_frames + unique, s.dropped_frames + dropped)
