"""The timeline of a room's recording: the room's clock, less media time zero and what pauses leave out."""

from openegress.source.cuts import Cuts


class RoomTimeline:
    """Changed on the event loop alone; the thread that draws reads it."""

    def __init__(self) -> None:
        self.zero_ns = 0
        """Unix ns of media time zero."""
        self.cuts = Cuts()
        """Replaced as a whole with each pause."""
        self.holds = Cuts()
        """During which the recording goes on, and nothing of the room is shown or heard. Replaced as well."""
        self._delay_ns = 0

    @property
    def held_ns(self) -> int | None:
        """Unix ns since when it is held; None: it is not."""
        return None if self.holds.open_ns is None else self.zero_ns + self.holds.open_ns

    def ns(self, unix_ns: int) -> int:
        """The room's time since media time zero."""
        return unix_ns - self.zero_ns

    def frame_ns(self, at_ns: int) -> int:
        """Where a frame lies that a listener had at `at_ns`, unix ns."""
        return at_ns - self.zero_ns + self._delay_ns

    def delay(self, by_ns: int) -> None:
        """Frames that come from now on lie later by this."""
        self._delay_ns = by_ns

    def pause(self, now_ns: int) -> int:
        """What comes from now on is left out. Returns when, in unix ns."""
        self.cuts = self.cuts.begun(now_ns - self.zero_ns)
        return self.zero_ns + self.cuts.edge_ns

    def hold(self, now_ns: int) -> int:
        """What comes from now on is not shown. Returns when, in unix ns."""
        self.holds = self.holds.begun(now_ns - self.zero_ns)
        return self.zero_ns + self.holds.edge_ns

    def resume(self, at_ns: int) -> int:
        """The recording goes on where it stopped. Returns when, in unix ns."""
        if self.held_ns is not None:
            self.holds = self.holds.ended(at_ns - self.zero_ns)
            return self.zero_ns + self.holds.edge_ns
        self.cuts = self.cuts.ended(at_ns - self.zero_ns)
        return self.zero_ns + self.cuts.edge_ns
