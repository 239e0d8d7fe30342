"""A track's frames on the room's clock: held until their place is known, then handed out.

The place comes from the track's sender reports and its participant's clock; when no report comes in
time, from the arrivals. A track that is recorded alone need not be held, as there is nothing that it could
be out of step with: its frames are placed by the arrival of the first one, and the first report tells by
how much that was too late.

What is placed stays under watch: the participant's clock is told how late the quickest frames are, and when
it moves, all tracks of the participant move with it, each at its next frame.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room import EncodedFrame
from openegress.room.clocks import RoomClock
from openegress.room.depacketise import AccessUnit
from openegress.room.rtcp import SenderReport
from openegress.room.timeline import Anchor, Timeline

logger = logging.getLogger(__name__)

S = 1_000_000_000
MS = 1_000_000

HOLD_NS = 8 * S
"""For the first sender report: it comes about 3 s after the first packet, at most 6 s."""
MAX_HELD_FRAMES = 3000
OVERLAP_NS = 100 * MS
"""Sound that lies further than this before what was given out is left out, as it would be heard on top of
that; pictures are not, as a decoder needs them all."""
TOLD_NS = 100 * MS
"""A smaller move of a clock is not worth a line in the log."""


@dataclass(slots=True)
class _Held:
    unwrapped: int
    unit: AccessUnit
    codec: AudioCodec | VideoCodec
    after_gap: bool
    arrival_ns: int


class Placing:
    """For one track, over SSRCs and codecs. `start` comes before the first frame."""

    def __init__(
        self,
        track_sid: str,
        identity: str,
        room_clock: RoomClock,
        wall_offset_ns: int,
        hand_out: Callable[[EncodedFrame], None],
        on_lag: Callable[[int], None] | None = None,
    ) -> None:
        """`on_lag`: frames are handed out at once; it is told by how many ns their capture times are late."""
        self.track_sid = track_sid
        self._identity = identity
        self._clock = room_clock.of(identity)
        self._wall_offset_ns = wall_offset_ns
        self._hand_out = hand_out
        self._on_lag = on_lag
        self._rate = 0
        self._timeline: Timeline | None = None
        self._correction_ns = 0
        """Of the participant's clock, as far as this track has followed it."""
        self._followed_ns = 0
        """Of the clock's moves."""
        self._late_ns = 0
        """By how much the track is placed later than its participant's clock says: where it was handed out
        at once."""
        self._least_ns: int | None = None
        """Monotonic arrival less unix capture of the quickest frame since the last tick."""
        self._held: deque[_Held] = deque()
        self._early_report: SenderReport | None = None
        self.anchor = Anchor.NONE

    def start(self, clock_rate: int) -> None:
        """The rate of the frames to come. Another one than before means another RTP clock."""
        if clock_rate == self._rate:
            return
        self.flush()
        last_ns = self._timeline.last_ns if self._timeline else 0
        self._rate = clock_rate
        self._timeline = Timeline(clock_rate, last_ns)
        self.anchor = Anchor.NONE

    def restart(self) -> None:
        """A new SSRC, whose RTP time starts elsewhere."""
        self._early_report = None
        if self._timeline is not None:
            self._on_lag = None
            self._timeline.restart()
            self.anchor = Anchor.NONE

    def flush(self) -> None:
        """Hands out what is held, wherever it seems to belong."""
        self._release(assume=True)

    def frame(
        self,
        timestamp: int,
        unit: AccessUnit,
        codec: AudioCodec | VideoCodec,
        after_gap: bool,
        now_ns: int,
    ) -> None:
        timeline = self._timeline
        assert timeline is not None
        unwrapped = timeline.arrived(timestamp, now_ns)
        if self._on_lag is not None and self.anchor is Anchor.NONE and self._early_report is None:
            timeline.assume(unwrapped, now_ns + self._wall_offset_ns)
            self.anchor = timeline.anchor
        if timeline.anchor is not Anchor.NONE:
            if self._followed_ns != self._clock.moved_ns:
                self._follow(timeline)
            self._give(unwrapped, unit, codec, after_gap)
            delay_ns = now_ns - timeline.placed_ns
            if self._least_ns is None or delay_ns < self._least_ns:
                self._least_ns = delay_ns
            return
        self._held.append(_Held(unwrapped, unit, codec, after_gap, now_ns))
        if self._early_report is not None:
            report, self._early_report = self._early_report, None
            self.report(report)
        elif len(self._held) >= MAX_HELD_FRAMES:
            self._release(assume=True)

    def report(self, report: SenderReport) -> None:
        timeline = self._timeline
        if timeline is None or (timeline.anchor is Anchor.NONE and not self._held):
            self._early_report = report
            return
        usual_ns = self._clock.usual_ns
        if self.anchor is Anchor.ARRIVAL:
            self._measure_lag(timeline, report)
            usual_ns = None  # where the arrivals put it counts for nothing now
        ntp_ns = report.ntp_ns + self._correction_ns + self._late_ns
        lag_ns = None if usual_ns is None else usual_ns - self._late_ns - self._wall_offset_ns
        step_ns = timeline.report(ntp_ns, report.rtp_timestamp, lag_ns)
        if step_ns:
            # The clock's correction holds for tracks that have followed it; this one does at its next frame.
            ahead_ns = self._clock.moved_ns - self._followed_ns
            found_ns = self._correction_ns + ahead_ns - step_ns
            self._correction_ns = self._clock.set_by_sender(found_ns) - ahead_ns
        self._release()

    def tick(self, now_ns: int) -> None:
        if self._held and now_ns - self._held[0].arrival_ns > HOLD_NS:
            logger.warning(
                "track %s: no sender report for %d s; its place on the timeline is taken from the arrival "
                "of its packets",
                self.track_sid,
                HOLD_NS // S,
            )
            self._release(assume=True)
        self._observe()

    def _observe(self) -> None:
        """Tells the participant's clock how late the quickest frames are. Those that were placed by their
        arrival tell nothing of it."""
        timeline = self._timeline
        if timeline is None:
            return
        least_ns, self._least_ns = self._least_ns, None
        if least_ns is not None and timeline.anchor is Anchor.SENDER_REPORT:
            delay_ns = least_ns + self._wall_offset_ns + self._late_ns
            self._clock.observe(delay_ns, timeline.arrival_ns)

    def _follow(self, timeline: Timeline) -> None:
        """Moves as the participant's clock has, now that a frame has come."""
        by_ns = self._clock.moved_ns - self._followed_ns
        self._followed_ns += by_ns
        if self.anchor is not Anchor.SENDER_REPORT:
            return  # not placed by that clock yet
        if abs(by_ns) >= TOLD_NS:
            logger.info(
                "participant %s: its clock has moved; track %s goes with it by %d ms",
                self._identity,
                self.track_sid,
                by_ns // MS,
            )
        self._correction_ns += by_ns
        timeline.shift(by_ns)

    def _measure_lag(self, timeline: Timeline, report: SenderReport) -> None:
        """The first report of a track that was placed by its arrivals."""
        lag_ns = timeline.estimate_ns(timeline.unwrap(report.rtp_timestamp)) - report.ntp_ns
        least_ns, self._least_ns = self._least_ns, None
        since_ns = 0 if least_ns is None else least_ns + self._wall_offset_ns
        self._judge(lag_ns + since_ns, timeline)
        self.anchor = Anchor.SENDER_REPORT
        if self._on_lag is not None:
            # Frames stay where they were put; what later reports say is moved there too.
            self._late_ns = lag_ns - self._correction_ns
            on_lag, self._on_lag = self._on_lag, None
            on_lag(self._late_ns)

    def _release(self, *, assume: bool = False) -> None:
        """Hands out the held frames, now that their place is known or has to be assumed."""
        timeline, held = self._timeline, self._held
        if timeline is None or not held:
            return
        if timeline.anchor is Anchor.NONE:
            if not assume:
                return
            first = held[0].unwrapped
            earliest = min(each.arrival_ns - (each.unwrapped - first) * S // self._rate for each in held)
            timeline.assume(first, earliest + self._wall_offset_ns)
        else:
            self._trust(timeline)
        self.anchor = timeline.anchor
        self._held = deque()
        for each in held:
            self._give(each.unwrapped, each.unit, each.codec, each.after_gap)

    def _trust(self, timeline: Timeline) -> None:
        """Compares the sender's clock with the arrivals of the held frames."""
        delay_ns = min(
            each.arrival_ns + self._wall_offset_ns - timeline.estimate_ns(each.unwrapped)
            for each in self._held
        )
        before_ns = self._correction_ns
        self._judge(delay_ns + before_ns + self._late_ns, timeline)
        timeline.shift(self._correction_ns - before_ns)

    def _judge(self, least_delay_ns: int, timeline: Timeline) -> None:
        """`least_delay_ns` of the track's frames by what the reports say, uncorrected."""
        before_ns = self._clock.correction_ns
        self._correction_ns = self._clock.judge(least_delay_ns, timeline.arrival_ns)
        self._followed_ns = self._clock.moved_ns
        if self._correction_ns != before_ns:
            logger.info(
                "participant %s: its clock differs by %d ms from the others'; its times are moved",
                self._identity,
                self._correction_ns // MS,
            )

    def _give(
        self, unwrapped: int, unit: AccessUnit, codec: AudioCodec | VideoCodec, after_gap: bool
    ) -> None:
        timeline = self._timeline
        assert timeline is not None
        capture_ns = timeline.capture_ns(unwrapped)
        if capture_ns - timeline.placed_ns > OVERLAP_NS and isinstance(codec, AudioCodec):
            return
        self._hand_out(
            EncodedFrame(
                self.track_sid,
                codec,
                unit.data,
                capture_ns,
                unwrapped,
                self._rate,
                unit.is_key,
                after_gap,
                unit.width,
                unit.height,
            )
        )
