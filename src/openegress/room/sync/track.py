"""Places a track's frames on our clock: holds them until their place is known, then hands them out. Pure.

Sound is handed out at the time of its line, whatever was handed out before: the writer keeps all of it, and
makes up for moves of the line in pauses. When the line of pictures has moved, they are moved to it faster or
slower by a tenth, which nobody sees.
"""

from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.room import EncodedFrame, TrackKey
from openegress.room.rtp.depacketise import AccessUnit
from openegress.room.rtp.packets import OVERTAKEN
from openegress.room.rtp.rtcp import SenderReport
from openegress.room.sync import arrival
from openegress.room.sync.arrival import LATE_TOGETHER_NS, ArrivalLine, Placement
from openegress.room.sync.participant import ParticipantSync
from openegress.room.sync.picture_line import PictureLine

MAX_HELD_FRAMES = 600
"""Limit for held frames: hundreds of them within the fraction of a second for which they are held are an
attack or a burst."""


class _Held(NamedTuple):
    rtp: int
    unit: AccessUnit
    codec: AudioCodec | VideoCodec
    after_gap: bool
    is_overtaken: bool


class TrackSync:
    """The frames of one track, over SSRCs and codecs.

    `start` comes before the first frame. `wall_offset_ns` turns monotonic time into unix time.
    """

    def __init__(
        self,
        track_sid: str,
        key: TrackKey,
        participant: ParticipantSync,
        wall_offset_ns: int,
        hand_out: Callable[[EncodedFrame], None],
    ) -> None:
        self.track_sid = track_sid
        self._participant = participant
        self._wall_offset_ns = wall_offset_ns
        self._hand_out = hand_out
        self._rate = 0
        self._line = ArrivalLine(arrival.AUDIO if key.kind is MediaKind.AUDIO else arrival.VIDEO)
        self._member = participant.add(key, self._line)
        self._pictures = PictureLine()
        self._unwrapped: int | None = None
        self._held: list[_Held] = []
        self._early_report: SenderReport | None = None
        self._told_ns = 0
        """The jumps of the line when its siblings were last notified."""

    @property
    def due_ns(self) -> int | None:
        """When to call `due`; None while nothing is held."""
        return self._line.due_ns

    def start(self, clock_rate: int) -> None:
        """Sets the rate of the frames to come. A different rate means a different RTP clock."""
        if clock_rate != self._rate:
            self.restart()
            self._rate = clock_rate

    def restart(self) -> None:
        """Prepares for another SSRC, whose RTP time starts elsewhere."""
        self.flush()
        self._line.restart()
        self._member.reports.forget()
        self._unwrapped = None
        self._early_report = None

    def close(self) -> None:
        """Ends the track; hands out what is held."""
        self.flush()
        self._participant.remove(self._member)

    def frame(
        self,
        timestamp: int,
        unit: AccessUnit,
        codec: AudioCodec | VideoCodec,
        after_gap: bool,
        arrival_ns: int,
    ) -> None:
        """Takes a frame. `timestamp`: as received, 32 bits; `arrival_ns`: of its first packet, monotonic, or
        OVERTAKEN."""
        rtp = self._unwrapped = self._unwrap(timestamp)
        if len(self._held) >= MAX_HELD_FRAMES:
            self.flush()
            self._held = []  # nothing tells where they belong
        place = self._observe(rtp, arrival_ns)
        self._held.append(_Held(rtp, unit, codec, after_gap, arrival_ns == OVERTAKEN))
        if place is Placement.KNOWN:
            self._release()

    def unusable(self, timestamp: int, arrival_ns: int) -> None:
        """Takes a frame that cannot be decoded: it shows, as any other, where those beside it belong."""
        rtp = self._unwrapped = self._unwrap(timestamp)
        if self._observe(rtp, arrival_ns) is Placement.KNOWN:
            self._release()

    def _observe(self, rtp: int, arrival_ns: int) -> Placement:
        place = self._line.observe(self._ns(rtp), arrival_ns)
        if place is Placement.HELD_BEHIND:
            # The frames that this one overtook were sent just before it, and get its place.
            overtaken = list(takewhile(lambda each: each.is_overtaken, reversed(self._held)))
            del self._held[len(self._held) - len(overtaken) :]
            self._release()
            self._held = overtaken[::-1]
        return place

    def report(self, report: SenderReport) -> None:
        if self._unwrapped is None or self._line.base_ns is None:
            self._early_report = report
            return
        rtp_ns = self._ns(self._unwrap(report.rtp_timestamp))
        self._participant.reported(self._member, report.ntp_ns - rtp_ns - self._line.jumped_ns)

    def due(self, now_ns: int) -> None:
        """Call it when time has passed; hands out frames whose place is known now."""
        if self._line.due_ns is not None and self._line.decide(now_ns):
            self._release()

    def flush(self) -> None:
        """Hands out what is held, at the places that seem best so far."""
        self._line.settle()
        self._release()

    def discard(self) -> None:
        """Drops what is held. RTP time may continue anywhere."""
        self._held = []
        self.restart()

    def _release(self) -> None:
        base_ns = self._line.base_ns
        if base_ns is None or not self._held:
            return
        self._tell_siblings()
        if self._early_report is not None:
            report, self._early_report = self._early_report, None
            self.report(report)
        target_ns = base_ns - self._participant.behind_ns(self._member)
        held, self._held = self._held, []
        for each in held:
            rtp_ns = self._ns(each.rtp)
            if isinstance(each.codec, AudioCodec):
                at_ns = rtp_ns + target_ns
            else:
                at_ns = self._pictures.place(rtp_ns, target_ns)
            self._hand_out(
                EncodedFrame(
                    self.track_sid,
                    each.codec,
                    each.unit.data,
                    at_ns + self._wall_offset_ns,
                    each.rtp,
                    self._rate,
                    each.unit.is_key,
                    each.after_gap,
                    each.unit.width,
                    each.unit.height,
                )
            )

    def _tell_siblings(self) -> None:
        before_ns, self._told_ns = self._told_ns, self._line.jumped_ns
        if self._told_ns - before_ns > LATE_TOGETHER_NS and self._member.key.kind is MediaKind.AUDIO:
            self._participant.sound_moved(self._member)

    def _unwrap(self, timestamp: int) -> int:
        """RTP time without its wrap-around, nearest to the last one."""
        if self._unwrapped is None:
            return timestamp + (1 << 32)  # room for frames before the first
        ahead = (timestamp - self._unwrapped) & 0xFFFFFFFF
        return self._unwrapped + (ahead - (1 << 32) if ahead >= 1 << 31 else ahead)

    def _ns(self, rtp: int) -> int:
        return rtp * S // self._rate
