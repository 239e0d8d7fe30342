"""One subscribed track: packets in, frames out, in order and on the clock.

It outlives SSRCs, connections and track SIDs: after a new join the same receiver goes on where it was.
What it wants of the sender (lost packets, a key frame) it says through `Feedback`.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.units import MS, S
from openegress.room import EncodedFrame, OnFrame, TrackKey
from openegress.room.budget import Reason, TrackBudget
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp.depacketise import AccessUnit, MalformedPayload, join_video, red
from openegress.room.rtp.frame_cipher import TrackCipher
from openegress.room.rtp.nack import AUDIO, VIDEO, NackPolicy
from openegress.room.rtp.packets import OVERTAKEN, RtpPacket, unwrap_rtx
from openegress.room.rtp.reorder import MAX_AHEAD_PACKETS, Delivered, Reorderer
from openegress.room.rtp.rtcp import ReportBlock, SenderReport
from openegress.room.signalling.sdp import Encoding, PayloadType
from openegress.room.sound_length import duration_of
from openegress.room.sync.participant import RoomSync
from openegress.room.sync.track import TrackSync

logger = logging.getLogger(__name__)


BLANK_SIDE = 16
"""LiveKit ends a track with pictures of 2x2 or 8x8."""
KEY_FRAME_REQUEST_NS = 500 * MS
"""Between two requests: a publisher needs some time to answer."""
KEY_FRAME_AFTER_NS = 700 * MS
"""Of waiting for a packet. It may come yet, but may as well have been lost on its way to the server: what
follows it cannot be decoded then, and what is not asked for before it is given up freezes for so much longer.
Round trips of 0.6 s bring nobody to ask."""
MAX_FRAME_PACKETS = 4000


class Feedback(Protocol):
    """What a receiver asks of its connection."""

    def wake(self, due_ns: int) -> None:
        """Packets are missing, or frames are held: `due` is to be called then."""

    def key_frame(self, ssrc: int) -> None: ...

    def codec(self, receiver: "TrackReceiver", codec: AudioCodec | VideoCodec) -> None:
        """The first packet came, or the codec changed."""

    def first_key_frame(self, receiver: "TrackReceiver", codec: VideoCodec, unit: AccessUnit) -> None:
        """The first whole key frame of a codec came in."""

    def over_budget(self, receiver: "TrackReceiver", reason: Reason) -> None:
        """The track costs more than it may. Again with each packet, until it is left out."""


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
        key: TrackKey,
        on_frame: OnFrame,
        feedback: Feedback,
        room_sync: RoomSync,
        wall_offset_ns: int,
        policy: NackPolicy | None = None,
        cipher: TrackCipher | None = None,
    ) -> None:
        """`policy`: by default that of the track's kind. `cipher`: of a track that is encrypted."""
        self.track_sid = track_sid
        self.on_frame = on_frame
        self.stats = ReceiverStats()
        self.codec: AudioCodec | VideoCodec | None = None
        self.ssrc = 0
        self.rtx_ssrc: int | None = None
        self._feedback = feedback
        self._policy = policy
        self._cipher = cipher
        self._types: Mapping[int, PayloadType] = {}
        self._repaired: dict[int, int] = {}
        """Payload type of retransmissions -> of what they repeat."""
        self._type: PayloadType | None = None
        self._reorderer = Reorderer(policy)
        """Made anew when the first packet tells what is received."""
        self._lost_before = 0
        """Packets of SSRCs that are over."""
        self._payloads: list[bytes] = []
        self._first_arrival_ns = 0
        """Of the frame being gathered."""
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
        self._precaution_ns = -S
        """When a key frame was asked for while packets were waited for."""
        self._last_audio_rtp: int | None = None
        self._reports = _Reports()
        self.identity = key.identity
        self._kind = key.kind
        self.packets = 0
        """That came or are missing, so far."""
        self._budget: TrackBudget | None = TrackBudget(key.kind)
        """None while the track is left out."""
        self._sync = TrackSync(track_sid, key, room_sync.of(key.identity), wall_offset_ns, self._hand_out)

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
        self._begin_anew()

    def leave_out(self) -> None:
        """No packet is taken from here on, and what is held is dropped."""
        self._budget = None
        self._sync.discard()
        self._begin_anew()

    def take(self) -> None:
        """The track was left out, and is not any more."""
        self._budget = TrackBudget(self._kind, on_probation=True)

    def _begin_anew(self) -> None:
        self._lost_before += self._reorderer.stats.lost
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
        self._sync.restart()

    def rename(self, track_sid: str, cipher: TrackCipher | None = None) -> None:
        """The track is back under another SID; what is held belongs to the old one."""
        self.flush()
        self.track_sid = self._sync.track_sid = track_sid
        self._cipher = cipher

    def flush(self) -> None:
        """Delivers what is held; nothing more will come of this SSRC."""
        self._deliver(self._reorderer.flush(), self._arrived_ns)
        self._payloads = []  # of a frame whose end did not come
        self._sync.flush()

    def close(self) -> None:
        """The track is not followed any more. Delivers what is held."""
        self.flush()
        self._sync.close()

    # --- packets

    def rtp(self, packet: RtpPacket, now_ns: int) -> None:
        kind = self._types.get(packet.payload_type)
        if kind is None or self._budget is None:
            return  # not ours
        if self._type is None:
            if not packet.payload:
                return  # a probe before the first packet: nothing to count from yet
            self._begin(kind)
        self._arrived_ns = now_ns
        self._reports.counted += 1
        self._measure_jitter(packet.timestamp, packet.arrival_ns, kind.clock_rate)
        reorderer = self._reorderer
        highest = reorderer.highest
        ready = reorderer.push(packet, now_ns)
        ahead = reorderer.highest - highest
        count = ahead if 1 < ahead <= MAX_AHEAD_PACKETS else 1
        self.packets += count
        self._judge(self._budget.packets(count, now_ns))
        if ready:
            self._deliver(ready, now_ns)
        self._ask_to_be_woken()

    def rtx(self, packet: RtpPacket, now_ns: int) -> None:
        number = self._repaired.get(packet.payload_type)
        original = unwrap_rtx(packet)
        if original is None or number is None or self._budget is None:
            return
        recovered = self._reorderer.stats.recovered
        ready = self._reorderer.push(original._replace(payload_type=number), now_ns, retransmitted=True)
        self._reports.counted += self._reorderer.stats.recovered - recovered
        if ready:
            self._deliver(ready, now_ns)
            self._ask_to_be_woken()

    def next_due_ns(self) -> int | None:
        """When `due` should be called; None while nothing is waited for."""
        packets_ns = self._reorderer.next_due_ns()
        # Frames that wait behind a lost packet may tell that those which are held are in time after all.
        return self._sync.due_ns if packets_ns is None else packets_ns

    def due(self, now_ns: int) -> list[int]:
        """Sequence numbers to request now."""
        requests, ready = self._reorderer.due(now_ns)
        if ready:
            self._deliver(ready, now_ns)
        if not self._reorderer.missing:
            self._sync.due(now_ns)
        elif isinstance(self.codec, VideoCodec):
            self._take_precautions(now_ns)
        return requests

    def sender_report(self, report: SenderReport, now_ns: int) -> None:
        self._reports.last, self._reports.last_at_ns = report, now_ns
        self._sync.report(report)

    def tick(self, now_ns: int) -> None:
        """About once a second: time-outs that no packet brings about."""
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
    def lost_packets(self) -> int:
        """Given up so far."""
        return self._lost_before + self._reorderer.stats.lost

    # --- inside

    def _take_precautions(self, now_ns: int) -> None:
        """Once for each time of waiting."""
        since_ns = self._reorderer.missing_since_ns
        if since_ns is None or since_ns <= self._precaution_ns or now_ns - since_ns < KEY_FRAME_AFTER_NS:
            return
        self._precaution_ns = now_ns
        self.request_key_frame(now_ns)

    def _judge(self, reason: Reason | None) -> None:
        if reason is not None:
            self._feedback.over_budget(self, reason)

    def _ask_to_be_woken(self) -> None:
        due_ns = self.next_due_ns()
        if due_ns is not None:
            self._feedback.wake(due_ns)

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
            self._sync.start(kind.clock_rate)
        if codec != self.codec:
            self.codec = codec
            self._payloads = []
            self._wants_key = True
            self._prefix = None
            self._feedback.codec(self, codec)

    def _measure_jitter(self, timestamp: int, arrival_ns: int, rate: int) -> None:
        reports = self._reports
        transit = arrival_ns * rate // S - timestamp
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
                    self._audio(packet)

    def _gap(self) -> None:
        self.stats.gaps += 1
        self._broken = True
        self._after_gap = True

    def _audio(self, packet: RtpPacket) -> None:
        if self._type is None or self._type.encoding is not Encoding.RED:
            self._sound(packet.timestamp, packet.payload, packet.arrival_ns)
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
                self._sound(timestamp, block.data, packet.arrival_ns)

    def _sound(self, timestamp: int, data: bytes, arrival_ns: int) -> None:
        self._last_audio_rtp = timestamp
        cipher = self._cipher
        if cipher is not None:
            assert self.codec is not None
            if cipher.is_injected(data):
                return
            try:
                data = cipher.open(self.codec, data, self._arrived_ns)
            except Undecryptable as error:
                self.stats.dropped += 1
                self._undecryptable(cipher, error)
                return
        self._place(timestamp, AccessUnit(data, True), arrival_ns)

    def _undecryptable(self, cipher: TrackCipher, error: Undecryptable) -> None:
        logger.debug("track %s: %s", self.track_sid, error)
        self._judge(cipher.trouble())

    def _video(self, packet: RtpPacket, now_ns: int) -> None:
        if packet.timestamp != self._timestamp:
            if self._payloads:
                self._finish_video(now_ns)
            self._timestamp = packet.timestamp
        arrival_ns = packet.arrival_ns
        if not self._payloads:
            self._first_arrival_ns = arrival_ns
        elif arrival_ns != OVERTAKEN:
            earlier_ns = self._first_arrival_ns
            self._first_arrival_ns = arrival_ns if earlier_ns == OVERTAKEN else min(earlier_ns, arrival_ns)
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
        cipher = self._cipher
        if cipher is not None and cipher.is_injected(payloads[-1]):
            self._blanked()
            return
        try:
            if cipher is None:
                unit = join_video(self.codec, payloads)
            else:
                unit = cipher.join(self.codec, payloads, now_ns)
        except MalformedPayload as error:
            self._malformed(error)
            self._unusable(now_ns)
            return
        except Undecryptable as error:
            assert cipher is not None
            self._undecryptable(cipher, error)
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
            self._blanked()
            return
        if self._wants_key and not unit.is_key:
            self._unusable(now_ns)
            return
        self._wants_key = self._asking = False
        if unit.is_key and self._shown is not self.codec and isinstance(self.codec, VideoCodec):
            self._shown = self.codec
            self._feedback.first_key_frame(self, self.codec, unit)
        self._place(self._timestamp, unit, self._first_arrival_ns)

    def _blanked(self) -> None:
        """The server has put a picture of its own behind the last one of a track that is muted or over."""
        self.stats.blank += 1
        self._wants_key = True
        self._asking = False

    def _unusable(self, now_ns: int) -> None:
        self.stats.dropped += 1
        self._wants_key = self._asking = True
        self._prefix = None
        # After a precaution the key frame is among what was held up, or is asked for once more by tick.
        if now_ns - self._precaution_ns >= S:
            self.request_key_frame(now_ns)

    def _malformed(self, error: MalformedPayload) -> None:
        logger.debug("track %s: %s", self.track_sid, error)

    def _place(self, timestamp: int, unit: AccessUnit, arrival_ns: int) -> None:
        assert self.codec is not None
        if self._budget is None:
            return
        self._judge(self._budget.media(self._amount(unit), self._arrived_ns))
        after_gap, self._after_gap = self._after_gap, False
        self._sync.frame(timestamp, unit, self.codec, after_gap, arrival_ns)

    def _amount(self, unit: AccessUnit) -> float:
        """See TrackBudget.media. A packet that is none costs as much as one that can be heard."""
        if not isinstance(self.codec, AudioCodec) or self._type is None:
            return 1.0
        rate = self._type.clock_rate
        return (duration_of(self.codec, unit.data) or rate // 50) / rate

    def _hand_out(self, frame: EncodedFrame) -> None:
        stats = self.stats
        stats.frames += 1
        stats.key_frames += frame.is_key
        stats.bytes += len(frame.data)
        self.on_frame(frame)
