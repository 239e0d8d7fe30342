"""Keeps the timeline of a room's recording: the room's clock, minus media time zero and the pauses left
out."""

from openegress.source.cuts import Cuts
from openegress.source.room.clock import DueLine


class RoomTimeline:
    """The timeline of one recording. Only the event loop changes it; the drawing thread reads it."""

    def __init__(self) -> None:
        self.zero_ns = 0
        """Unix ns of media time zero."""
        self.cuts = Cuts()
        """Pauses that the recording leaves out. Each pause replaces the value as a whole."""
        self.holds = Cuts()
        """Pauses during which the recording continues without the room's picture and sound. Each pause
        replaces the value as a whole."""
        self._delay_ns = 0
        self._due = DueLine()

    @property
    def held_ns(self) -> int | None:
        """Unix ns of the current hold's start; None: there is none."""
        return None if self.holds.open_ns is None else self.zero_ns + self.holds.open_ns

    def begin(self, zero_ns: int, now_ns: int) -> None:
        """Begins the recording now, in unix ns; media may have been received since `zero_ns`."""
        self.zero_ns = zero_ns
        self._due.begin(now_ns, 0)

    def due_ns(self, now_ns: int) -> int:
        """The time up to which the recording is due, in its own time. `now_ns`: unix ns."""
        return self._due.at(now_ns, self.cuts.recorded_ns(self.ns(now_ns)))

    def ns(self, unix_ns: int) -> int:
        """The room's time since media time zero."""
        return unix_ns - self.zero_ns

    def frame_ns(self, at_ns: int) -> int:
        """The place of a frame that a listener had at `at_ns`, unix ns."""
        return at_ns - self.zero_ns + self._delay_ns

    def delay(self, by_ns: int) -> None:
        """Delays all frames that come from now on."""
        self._delay_ns = by_ns

    def pause(self, now_ns: int) -> int:
        """Leaves out media from now on. Returns since when, in unix ns."""
        self.cuts = self.cuts.begun(now_ns - self.zero_ns)
        return self.zero_ns + self.cuts.edge_ns

    def hold(self, now_ns: int) -> int:
        """Hides media from now on. Returns since when, in unix ns."""
        self.holds = self.holds.begun(now_ns - self.zero_ns)
        return self.zero_ns + self.holds.edge_ns

    def resume(self, at_ns: int, now_ns: int) -> int:
        """Continues the recording where it stopped, with the media at `at_ns`. Returns when that was, in unix
        ns."""
        if self.held_ns is not None:
            self.holds = self.holds.ended(at_ns - self.zero_ns)
            return self.zero_ns + self.holds.edge_ns
        self._due.begin(now_ns, self.cuts.recorded_ns(at_ns - self.zero_ns))
        self.cuts = self.cuts.ended(at_ns - self.zero_ns)
        return self.zero_ns + self.cuts.edge_ns
