"""Gives out a room's pictures and sound in order, each in its slot, at the sink's pace."""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.mixer import BLOCK_SAMPLES
from openegress.media.overload import LAST_PICTURES_S, MAX_WAITING_NS, LeftOutPictures
from openegress.media.samples import SAMPLE_RATE
from openegress.source.cuts import BLOCK_NS, Cuts
from openegress.source.room.clock import Horizon, Slots, is_left_out
from openegress.source.room.compositor import AUDIO_PATIENCE_NS, VIDEO_PATIENCE_NS, Compositor


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Measures the time spent on giving out media, which may take long. Uses a monotonic clock in ns."""

    clock: Callable[[], int]
    began_ns: int
    """When giving out began."""
    stop_ns: int = 0
    """When the recording was stopped; 0: it continues."""

    @property
    def giving_ns(self) -> int:
        return self.clock() - self.began_ns

    @property
    def waiting_ns(self) -> int:
        """How long somebody has waited for the end of the recording."""
        return self.clock() - self.stop_ns if self.stop_ns else 0


@dataclass(frozen=True, slots=True)
class Until:
    """The times up to which media is given out, in the recording's time."""

    pictures_ns: int
    sound_ns: int
    """No later: while the event loop is held up, only sound waits for what it has not read."""
    due_ns: int
    """The end if nothing had been awaited."""


class PacedOutput:
    """The output of one recording. Only the drawing thread uses it."""

    def __init__(
        self, compositor: Compositor, framerate: int | None, *, with_audio: bool, tick_ns: int
    ) -> None:
        """`framerate`: None without pictures. `tick_ns`: interval between calls."""
        self._compositor = compositor
        self._pictures = Slots(framerate) if framerate is not None else None
        self._blocks = Slots(SAMPLE_RATE // BLOCK_SAMPLES) if with_audio else None
        self._horizon = Horizon(tick_ns)
        self._told_cuts = 0
        self._looked_ns = 0
        self.excused_ns = 0
        """How much of the wait for lost sound is not part of a picture's age: what exceeds the wait for
        pictures. Pictures must not be ahead of sound that comes late, and still be drawn."""
        self.left_out = 0
        """Pictures dropped so far."""
        self._left_out = LeftOutPictures()

    @property
    def has_pictures(self) -> bool:
        return self._pictures is not None

    @property
    def next_picture(self) -> int:
        return self._pictures.next if self._pictures is not None else 0

    def until(self, due_ns: int, now_ns: int, known_ns: int, cuts: Cuts) -> Until:
        """The times up to which to give out media. `due_ns`: up to where the recording is due, in its own
        time. `now_ns`: the source's time. `known_ns`: everything that arrived before this is known."""
        sound_ns = cuts.recorded_ns(self._compositor.complete_ns(known_ns))
        if self._pictures is None:
            reached_ns = self._horizon.advance(due_ns, sound_ns)
            return Until(reached_ns, reached_ns, due_ns)
        # What is not known yet appears in a later picture.
        complete_ns = cuts.recorded_ns(self._compositor.complete_ns(now_ns))
        due_ns -= self._excuse(due_ns, due_ns - complete_ns)
        reached_ns = self._horizon.advance(due_ns, complete_ns)
        return Until(reached_ns, min(reached_ns, sound_ns), due_ns)

    def until_end(self, end_ns: int) -> Until:
        """All that is left when the recording ends: nothing is awaited any more."""
        return Until(end_ns, end_ns, end_ns - self.excused_ns)

    def _excuse(self, due_ns: int, awaited_ns: int) -> int:
        """Updates `excused_ns`: it lasts until the wait is caught up with."""
        passed_ns, self._looked_ns = due_ns - self._looked_ns, due_ns
        longest_ns = min(awaited_ns, AUDIO_PATIENCE_NS) - VIDEO_PATIENCE_NS
        self.excused_ns = max(0, longest_ns, self.excused_ns - passed_ns)
        return self.excused_ns

    def give(self, sink: FrameSink, until: Until, cuts: Cuts, holds: Cuts, spent: TimeSpent) -> None:
        """Gives everything before `until`."""
        while self._give_one(sink, until, cuts, holds, spent):
            pass

    def _give_one(self, sink: FrameSink, until: Until, cuts: Cuts, holds: Cuts, spent: TimeSpent) -> bool:
        """Gives sound up to the next picture, and the picture. Returns False if there is none to give."""
        sound_ns = until.sound_ns
        if self._pictures is not None:
            sound_ns = min(sound_ns, self._pictures.next_ns)
        if self._blocks is not None:
            while self._blocks.at_ns(self._blocks.next + 1) <= sound_ns:
                if self._pictures is None:
                    self._tell_cuts(sink, cuts, self._blocks.next_ns)
                source_ns = cuts.source_ns(self._blocks.next_ns)
                samples = self._compositor.sound(source_ns // BLOCK_NS)
                if holds.covers(source_ns):
                    # This is the rest of earlier sound, which is heard late.
                    samples = bytes(len(samples))
                sink.audio(samples, self._blocks.next_ns, SAMPLE_RATE)
                self._blocks.next += 1
        if self._pictures is None or self._pictures.next_ns >= until.pictures_ns:
            return False
        picture_ns = self._pictures.next_ns
        if self._is_left_out(self._pictures.next, picture_ns, until, spent):
            self.left_out += 1
            self._left_out.note(picture_ns / S)
        else:
            self._tell_cuts(sink, cuts, picture_ns)
            sink.video(self._compositor.picture(cuts.source_ns(picture_ns)), picture_ns)
        self._pictures.next += 1
        return True

    def _is_left_out(self, number: int, picture_ns: int, until: Until, spent: TimeSpent) -> bool:
        age_ns = until.due_ns - picture_ns + spent.giving_ns  # giving itself may take long
        if spent.stop_ns:
            # That many pictures wait may be for media that was awaited until the stop.
            return self._is_too_late(spent.waiting_ns, picture_ns) or age_ns > MAX_WAITING_NS
        return is_left_out(number, age_ns, until.due_ns - until.pictures_ns)

    def _is_too_late(self, waited_ns: int, picture_ns: int) -> bool:
        """Whether somebody has waited for the end so long that this picture is dropped."""
        return waited_ns > (0 if self._left_out.are_many(picture_ns / S) else LAST_PICTURES_S * S)

    def _tell_cuts(self, sink: FrameSink, cuts: Cuts, next_ns: int) -> None:
        """Reports the cuts that end before the media at `next_ns`."""
        while self._told_cuts < len(cuts.over) and cuts.resumed_ns(self._told_cuts) <= next_ns:
            sink.resumed(cuts.resumed_ns(self._told_cuts), cuts.length_ns(self._told_cuts))
            self._told_cuts += 1
