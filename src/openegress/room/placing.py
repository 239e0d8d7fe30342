"""A track's frames on the room's clock: held until their place is known, then handed out.

The place comes from the track's sender reports and its participant's clock; when no report comes in
time, from the arrivals. A track that is recorded alone need not be held, as there is nothing that it could
be out of step with: its frames are placed by the arrival of the first one, and the first report tells by
how much that was too late.
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
        self._room_clock = room_clock
        self._wall_offset_ns = wall_offset_ns
        self._hand_out = hand_out
        self._on_lag = on_lag
        self._rate = 0
        self._timeline: Timeline | None = None
        self._correction_ns = 0
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

    def restart(self) -> None:
        """A new SSRC, whose RTP time starts elsewhere."""
        self._early_report = None
        if self._timeline is not None:
            self._on_lag = None
            self._timeline.restart()

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
            self._give(unwrapped, unit, codec, after_gap)
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
        if self._on_lag is not None and self.anchor is Anchor.ARRIVAL:
            self._measure_lag(timeline, report, self._on_lag)
        timeline.report(report.ntp_ns + self._correction_ns, report.rtp_timestamp)
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

    def _measure_lag(self, timeline: Timeline, report: SenderReport, on_lag: Callable[[int], None]) -> None:
        """Frames stay where they were put; what later reports say is moved there too."""
        lag_ns = timeline.estimate_ns(timeline.unwrap(report.rtp_timestamp)) - report.ntp_ns
        self._correction_ns, self._on_lag = lag_ns, None
        on_lag(lag_ns - self._room_clock.correction_ns(self._identity, lag_ns))

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
        """Compares the sender's clock with the arrivals, once for each participant."""
        if self._correction_ns:
            return
        delay_ns = min(
            each.arrival_ns + self._wall_offset_ns - timeline.estimate_ns(each.unwrapped)
            for each in self._held
        )
        correction_ns = self._room_clock.correction_ns(self._identity, delay_ns)
        if correction_ns:
            logger.info(
                "participant %s: its clock differs by %d ms from the others'; its times are moved",
                self._identity,
                correction_ns // MS,
            )
            self._correction_ns = correction_ns
            timeline.shift(correction_ns)

    def _give(
        self, unwrapped: int, unit: AccessUnit, codec: AudioCodec | VideoCodec, after_gap: bool
    ) -> None:
        timeline = self._timeline
        assert timeline is not None
        self._hand_out(
            EncodedFrame(
                self.track_sid,
                codec,
                unit.data,
                timeline.capture_ns(unwrapped),
                unwrapped,
                self._rate,
                unit.is_key,
                after_gap,
                unit.width,
                unit.height,
            )
        )
