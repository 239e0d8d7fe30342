"""One subscribed track: packets in, frames out, in order and on the clock.

It outlives SSRCs, connections and track SIDs: after a new join the same receiver goes on where it was.
What it wants of the sender (lost packets, a key frame) it says through `Feedback`.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room import EncodedFrame, OnFrame
from openegress.room.clocks import RoomClock
from openegress.room.depacketise import AccessUnit, MalformedPayload, join_video, red
from openegress.room.nack import AUDIO, VIDEO, NackPolicy
from openegress.room.placing import Placing
from openegress.room.reorder import Delivered, Reorderer
from openegress.room.rtcp import ReportBlock, SenderReport
from openegress.room.rtp import RtpPacket, unwrap_rtx
from openegress.room.sdp import Encoding, PayloadType
from openegress.room.timeline import Anchor

logger = logging.getLogger(__name__)

S = 1_000_000_000
MS = 1_000_000

BLANK_SIDE = 16
"""LiveKit ends a track with pictures of 2x2 or 8x8."""
KEY_FRAME_REQUEST_NS = 500 * MS
"""Between two requests: a publisher needs some time to answer."""
MAX_FRAME_PACKETS = 4000


class Feedback(Protocol):
    """What a receiver asks of its connection."""

    def missing(self, due_ns: int) -> None:
        """Packets are missing: `due` is to be called then."""

    def key_frame(self, ssrc: int) -> None: ...

    def codec(self, receiver: "TrackReceiver", codec: AudioCodec | VideoCodec) -> None:
        """The first packet came, or the codec changed."""

    def first_key_frame(self, receiver: "TrackReceiver", codec: VideoCodec, unit: AccessUnit) -> None:
        """The first whole key frame of a codec came in."""

    def lag(self, receiver: "TrackReceiver", lag_ns: int) -> None:
        """Of a receiver that hands frames out at once: their capture times are that much too late."""


@dataclass(slots=True)
class ReceiverStats:
    frames: int = 0
    key_frames: int = 0
    bytes: int = 0
    dropped: int = 0
    """Frames that could not be used: incomplete, malformed or without the key frame before them."""
    blank: int = 0
    gaps: int = 0
    key_frame_requests: int = 0


@dataclass(slots=True)
class _Reports:
    """What receiver reports are made of (RFC 3550 sections 6.4.1, A.3, A.8)."""

    last: SenderReport | None = None
    last_at_ns: int = 0
    expected: int = 0
    received: int = 0
    jitter: float = 0.0
    transit: int | None = None
    counted: int = 0
    """Packets of the SSRC itself and its retransmissions that filled a gap."""


class TrackReceiver:
    """Not bound to an event loop: times are given, as monotonic ns.

    `wall_offset_ns` makes unix time of them.
    """

    def __init__(
        self,
        track_sid: str,
        identity: str,
        on_frame: OnFrame,
        feedback: Feedback,
        room_clock: RoomClock,
        wall_offset_ns: int,
        policy: NackPolicy | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        """`policy`: by default that of the track's kind. `at_once`: without waiting for a sender report."""
        self.track_sid = track_sid
        self.identity = identity
        self.on_frame = on_frame
        self.stats = ReceiverStats()
        self.codec: AudioCodec | VideoCodec | None = None
        self.ssrc = 0
        self.rtx_ssrc: int | None = None
        self._feedback = feedback
        self._policy = policy
        self._types: Mapping[int, PayloadType] = {}
        self._repaired: dict[int, int] = {}
        """Payload type of retransmissions -> of what they repeat."""
        self._type: PayloadType | None = None
        self._reorderer = Reorderer(policy)
        """Made anew when the first packet tells what is received."""
        self._payloads: list[bytes] = []
        self._timestamp = -1
        self._broken = False
        """The frame being gathered has lost packets."""
        self._wants_key = True
        self._asking = False
        """A key frame was asked for and has not come."""
        self._after_gap = False
        self._prefix: AccessUnit | None = None
        self._blank = False
        self._shown: VideoCodec | None = None
        """The codec whose first key frame was shown."""
        self._arrived_ns = 0
        self._asked_ns = -KEY_FRAME_REQUEST_NS
        self._last_audio_rtp: int | None = None
        self._reports = _Reports()
        on_lag = partial(feedback.lag, self) if at_once else None
        self._placing = Placing(track_sid, identity, room_clock, wall_offset_ns, self._hand_out, on_lag)

    # --- life

    def attach(self, ssrc: int, rtx_ssrc: int | None, types: Mapping[int, PayloadType]) -> None:
        """An SSRC to receive from now on. The one before it is over."""
        self._types = types
        self._repaired = {each.rtx_number: each.number for each in types.values() if each.rtx_number}
        self.rtx_ssrc = rtx_ssrc
        if ssrc == self.ssrc:
            return
        if self.ssrc:
            self.flush()
        self.ssrc = ssrc
        self._reorderer = Reorderer(self._policy)
        self._reports = _Reports()
        self._type = None
        self._payloads = []
        self._broken = False
        self._wants_key = True
        self._asking = False
        self._after_gap = self.stats.frames > 0
        self._prefix = None
        self._blank = False
        self._last_audio_rtp = None
        self._placing.restart()

    def rename(self, track_sid: str) -> None:
        """The track is back under another SID; what is held belongs to the old one."""
        self.flush()
        self.track_sid = self._placing.track_sid = track_sid

    def flush(self) -> None:
        """Delivers what is held; nothing more will come of this SSRC."""
        self._deliver(self._reorderer.flush(), self._arrived_ns)
        self._payloads = []  # of a frame whose end did not come
        self._placing.flush()

    # --- packets

    def rtp(self, packet: RtpPacket, now_ns: int) -> None:
        kind = self._types.get(packet.payload_type)
        if kind is None:
            return  # not ours
        if self._type is None:
            if not packet.payload:
                return  # a probe before the first packet: nothing to count from yet
            self._begin(kind)
        self._arrived_ns = now_ns
        self._reports.counted += 1
        self._measure_jitter(packet.timestamp, now_ns, kind.clock_rate)
        ready = self._reorderer.push(packet, now_ns)
        if ready:
            self._deliver(ready, now_ns)
        due_ns = self._reorderer.next_due_ns()
        if due_ns is not None:
            self._feedback.missing(due_ns)

    def rtx(self, packet: RtpPacket, now_ns: int) -> None:
        number = self._repaired.get(packet.payload_type)
        original = unwrap_rtx(packet)
        if original is None or number is None:
            return
        recovered = self._reorderer.stats.recovered
        ready = self._reorderer.push(original._replace(payload_type=number), now_ns, retransmitted=True)
        self._reports.counted += self._reorderer.stats.recovered - recovered
        if ready:
            self._deliver(ready, now_ns)

    def next_due_ns(self) -> int | None:
        return self._reorderer.next_due_ns()

    def due(self, now_ns: int) -> list[int]:
        """Sequence numbers to request now."""
        requests, ready = self._reorderer.due(now_ns)
        if ready:
            self._deliver(ready, now_ns)
        return requests

    def sender_report(self, report: SenderReport, now_ns: int) -> None:
        self._reports.last, self._reports.last_at_ns = report, now_ns
        self._placing.report(report)

    def tick(self, now_ns: int) -> None:
        """About once a second: time-outs that no packet brings about."""
        self._placing.tick(now_ns)
        if self._asking:
            self.request_key_frame(now_ns)

    def request_key_frame(self, now_ns: int) -> None:
        if self.ssrc and now_ns - self._asked_ns >= KEY_FRAME_REQUEST_NS:
            self._asked_ns = now_ns
            self.stats.key_frame_requests += 1
            self._feedback.key_frame(self.ssrc)

    def report_block(self, now_ns: int) -> ReportBlock | None:
        reorderer, reports = self._reorderer, self._reports
        if reorderer.highest < 0 or not self.ssrc:
            return None
        expected, received = reorderer.expected, reports.counted
        interval_expected = expected - reports.expected
        interval_lost = interval_expected - (received - reports.received)
        reports.expected, reports.received = expected, received
        fraction = 0
        if interval_expected > 0 and interval_lost > 0:
            fraction = min(255, (interval_lost << 8) // interval_expected)
        delay = (now_ns - reports.last_at_ns) * 65536 // S if reports.last else 0
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            packets_lost=expected - received,
            highest_sequence=reorderer.highest - 0x10000,
            jitter=int(reports.jitter),
            last_report=reports.last.ntp_middle if reports.last else 0,
            delay=delay,
        )

    @property
    def anchor(self) -> Anchor:
        """What the track's capture times rest on."""
        return self._placing.anchor

    @property
    def reorder_stats(self) -> object:
        return self._reorderer.stats

    # --- inside

    def _begin(self, kind: PayloadType) -> None:
        """The first packet of an SSRC has come."""
        if isinstance(kind.encoding.codec, VideoCodec):
            self._reorderer = Reorderer(self._policy or VIDEO)
        else:
            self._reorderer = Reorderer(self._policy or AUDIO, self._repeats)

    def _repeats(self, packet: RtpPacket) -> Iterable[int]:
        """See reorder.Repeats."""
        kind = self._types.get(packet.payload_type)
        if kind is None or kind.encoding is not Encoding.RED:
            return ()
        try:
            return [block.timestamp_offset for block in red.split(packet.payload) if block.data]
        except MalformedPayload:
            return ()  # told when it is delivered

    def _switch(self, kind: PayloadType) -> None:
        """The packets delivered from here on are of another payload type."""
        previous, self._type = self._type, kind
        codec = kind.encoding.codec
        if previous is None or previous.clock_rate != kind.clock_rate:
            self._placing.start(kind.clock_rate)
        if codec != self.codec:
            self.codec = codec
            self._payloads = []
            self._wants_key = True
            self._prefix = None
            self._feedback.codec(self, codec)

    def _measure_jitter(self, timestamp: int, now_ns: int, rate: int) -> None:
        reports = self._reports
        transit = now_ns * rate // S - timestamp
        if reports.transit is not None:
            change = abs((transit - reports.transit + 0x80000000 & 0xFFFFFFFF) - 0x80000000)
            reports.jitter += (change - reports.jitter) / 16
        reports.transit = transit

    def _deliver(self, ready: list[Delivered], now_ns: int) -> None:
        for packet in ready:
            if packet is None:
                self._gap()
            elif packet.payload:
                if self._type is None or packet.payload_type != self._type.number:
                    self._switch(self._types[packet.payload_type])
                if isinstance(self.codec, VideoCodec):
                    self._video(packet, now_ns)
                else:
                    self._audio(packet, now_ns)

    def _gap(self) -> None:
        self.stats.gaps += 1
        self._broken = True
        self._after_gap = True

    def _audio(self, packet: RtpPacket, now_ns: int) -> None:
        if self._type is None or self._type.encoding is not Encoding.RED:
            self._last_audio_rtp = packet.timestamp
            self._place(packet.timestamp, AccessUnit(packet.payload, True), now_ns)
            return
        try:
            blocks = red.split(packet.payload)
        except MalformedPayload as error:
            self.stats.dropped += 1
            self._malformed(error)
            return
        for block in blocks:
            timestamp = packet.timestamp - block.timestamp_offset & 0xFFFFFFFF
            last = self._last_audio_rtp
            newer = last is not None and 0 < (timestamp - last & 0xFFFFFFFF) < 1 << 31
            # Repeated blocks only fill what was lost; before the first packet there is no gap to fill. The
            # packet's own is new in any case, also where RTP time began anew.
            if block.data and (newer or block is blocks[-1]):
                self._last_audio_rtp = timestamp
                self._place(timestamp, AccessUnit(block.data, True), now_ns)

    def _video(self, packet: RtpPacket, now_ns: int) -> None:
        if packet.timestamp != self._timestamp:
            if self._payloads:
                self._finish_video(now_ns)
            self._timestamp = packet.timestamp
        self._payloads.append(packet.payload)
        if packet.marker or len(self._payloads) > MAX_FRAME_PACKETS:
            self._finish_video(now_ns)

    def _finish_video(self, now_ns: int) -> None:
        payloads, self._payloads = self._payloads, []
        if self._broken:
            # Whether the loss hit this frame or the one before cannot be told: both are done with.
            self._broken = False
            self._unusable(now_ns)
            return
        assert isinstance(self.codec, VideoCodec)
        try:
            unit = join_video(self.codec, payloads)
        except MalformedPayload as error:
            self._malformed(error)
            self._unusable(now_ns)
            return
        if unit.parameters_only:
            self._prefix = unit
            return
        self._video_unit(unit, now_ns)

    def _video_unit(self, unit: AccessUnit, now_ns: int) -> None:
        if self._prefix is not None:
            prefix, self._prefix = self._prefix, None
            unit = replace(
                unit,
                data=prefix.data + unit.data,
                width=unit.width or (prefix.width if unit.is_key else 0),
                height=unit.height or (prefix.height if unit.is_key else 0),
            )
        if unit.is_key:
            self._blank = 0 < unit.width <= BLANK_SIDE and 0 < unit.height <= BLANK_SIDE
        if self._blank:
            self.stats.blank += 1
            self._wants_key = True
            self._asking = False
            return
        if self._wants_key and not unit.is_key:
            self._unusable(now_ns)
            return
        self._wants_key = self._asking = False
        if unit.is_key and self._shown is not self.codec and isinstance(self.codec, VideoCodec):
            self._shown = self.codec
            self._feedback.first_key_frame(self, self.codec, unit)
        self._place(self._timestamp, unit, now_ns)

    def _unusable(self, now_ns: int) -> None:
        self.stats.dropped += 1
        self._wants_key = self._asking = True
        self._prefix = None
        self.request_key_frame(now_ns)

    def _malformed(self, error: MalformedPayload) -> None:
        logger.debug("track %s: %s", self.track_sid, error)

    def _place(self, timestamp: int, unit: AccessUnit, now_ns: int) -> None:
        assert self.codec is not None
        after_gap, self._after_gap = self._after_gap, False
        self._placing.frame(timestamp, unit, self.codec, after_gap, now_ns)

    def _hand_out(self, frame: EncodedFrame) -> None:
        stats = self.stats
        stats.frames += 1
        stats.key_frames += frame.is_key
        stats.bytes += len(frame.data)
        self.on_frame(frame)
