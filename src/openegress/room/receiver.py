"""One subscribed track: packets in, frames out, in order and on the clock.

It outlives SSRCs, connections and track SIDs: after a new join the same receiver continues where it was. It
asks its sender for lost packets and key frames through `Feedback`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room import EncodedFrame, OnFrame, TrackKey
from openegress.room.budget import Reason, TrackBudget
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp.depacketise import AccessUnit, MalformedPayload
from openegress.room.rtp.frame_assembler import FrameAssembler
from openegress.room.rtp.frame_cipher import TrackCipher
from openegress.room.rtp.key_frame_demand import KeyFrameDemand
from openegress.room.rtp.nack import NackPolicy
from openegress.room.rtp.packets import RtpPacket
from openegress.room.rtp.reorder import Delivered
from openegress.room.rtp.rtcp import ReportBlock, SenderReport
from openegress.room.rtp.sound_assembler import SoundAssembler
from openegress.room.rtp.stream import RtpStream
from openegress.room.signalling.sdp import PayloadType
from openegress.room.sound_length import duration_of
from openegress.room.sync.participant import RoomSync
from openegress.room.sync.track import TrackSync

_log = logging.getLogger(__name__)


class Feedback(Protocol):
    """The requests of a receiver to its connection."""

    def wake(self, due_ns: int) -> None:
        """Packets are missing, or frames are held: call `due` at that time."""

    def key_frame(self, ssrc: int) -> None: ...

    def codec(self, receiver: "TrackReceiver", codec: AudioCodec | VideoCodec) -> None:
        """Reports the codec of the first packet, or a change of it."""

    def first_key_frame(self, receiver: "TrackReceiver", codec: VideoCodec, unit: AccessUnit) -> None:
        """Reports the first complete key frame of a codec."""

    def over_budget(self, receiver: "TrackReceiver", reason: Reason) -> None:
        """Reports that the track costs more than it may: again with each packet, until it is left out."""


@dataclass(slots=True)
class ReceiverStats:
    frames: int = 0
    key_frames: int = 0
    bytes: int = 0
    dropped: int = 0
    """Frames that could not be used: incomplete, malformed, or without the key frame they depend on."""
    blank: int = 0
    gaps: int = 0


class TrackReceiver:
    """A track's receiver.

    Not bound to an event loop: callers give times, as monotonic ns. `wall_offset_ns` turns them into unix
    time. Implements PictureTaker and SoundTaker.
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
        """`policy` defaults to that of the track's kind. `cipher` decrypts an encrypted track."""
        self.track_sid = track_sid
        self.key = key
        self.on_frame = on_frame
        self.stats = ReceiverStats()
        self.codec: AudioCodec | VideoCodec | None = None
        self._feedback = feedback
        self._stream = RtpStream(policy)
        self._type: PayloadType | None = None
        """The type of the last delivered packet."""
        self._pictures = FrameAssembler(self, cipher)
        self._sound = SoundAssembler(self, cipher)
        self._demand = KeyFrameDemand()
        self._after_gap = False
        self._arrived_ns = 0
        self._budget: TrackBudget | None = TrackBudget(key.kind)
        """The track's budget; None while it is left out."""
        self._sync = TrackSync(track_sid, key, room_sync.of(key.identity), wall_offset_ns, self._hand_out)

    # --- life

    def attach(self, ssrc: int, rtx_ssrc: int | None, types: Mapping[int, PayloadType]) -> None:
        """Receives this SSRC from now on. The previous one has ended."""
        self._stream.map(rtx_ssrc, types)
        if ssrc == self.ssrc:
            return
        if self.ssrc:
            self.flush()
        self._stream.ssrc = ssrc
        self._begin_anew()

    def leave_out(self) -> None:
        """Takes no packets from now on, and drops what is held."""
        self._budget = None
        self._sync.discard()
        self._begin_anew()

    def take(self) -> None:
        """Takes the track again after it was left out."""
        self._budget = TrackBudget(self.key.kind, on_probation=True)

    def _begin_anew(self) -> None:
        self._stream.restart()
        self._type = None
        self._pictures.restart()
        self._sound.restart()
        self._demand.is_open = False
        self._after_gap = self.stats.frames > 0
        self._sync.restart()

    def rename(self, track_sid: str, cipher: TrackCipher | None = None) -> None:
        """Continues with the track under another SID; held frames belong to the old one."""
        self.flush()
        self.track_sid = self._sync.track_sid = track_sid
        self._pictures.cipher = self._sound.cipher = cipher

    def flush(self) -> None:
        """Delivers what is held; nothing more will arrive from this SSRC."""
        self._deliver(self._stream.flush(), self._arrived_ns)
        self._pictures.forget()
        self._sync.flush()

    def close(self) -> None:
        """Ends the reception of the track. Delivers what is held."""
        self.flush()
        self._sync.close()

    # --- packets

    @property
    def ssrc(self) -> int:
        return self._stream.ssrc

    @property
    def rtx_ssrc(self) -> int | None:
        return self._stream.rtx_ssrc

    @property
    def packets(self) -> int:
        """Packets so far, received or missing."""
        return self._stream.packets

    @property
    def lost_packets(self) -> int:
        """Packets given up so far."""
        return self._stream.lost_packets

    def rtp(self, packet: RtpPacket, now_ns: int) -> None:
        stream = self._stream
        kind = stream.type_of(packet)
        if kind is None or self._budget is None:
            return  # not ours
        before = stream.packets
        ready = stream.put(packet, kind, now_ns)
        count = stream.packets - before
        if not count:
            return
        self._arrived_ns = now_ns
        self._judge(self._budget.packets(count, now_ns))
        if ready:
            self._deliver(ready, now_ns)
        self._ask_to_be_woken()

    def rtx(self, packet: RtpPacket, now_ns: int) -> None:
        if self._budget is None:
            return
        ready = self._stream.put_retransmission(packet, now_ns)
        if ready:
            self._deliver(ready, now_ns)
            self._ask_to_be_woken()

    def next_due_ns(self) -> int | None:
        """When to call `due`; None while it waits for nothing."""
        packets_ns = self._stream.next_due_ns()
        # Frames that wait behind a lost packet may show that held frames are in time after all.
        return self._sync.due_ns if packets_ns is None else packets_ns

    def due(self, now_ns: int) -> list[int]:
        """Checks what is due. Returns the sequence numbers to request now."""
        requests, ready = self._stream.due(now_ns)
        if ready:
            self._deliver(ready, now_ns)
        if not self._stream.is_missing:
            self._sync.due(now_ns)
        elif isinstance(self.codec, VideoCodec) and self._demand.takes_precaution(
            self._stream.doubtful_since_ns, now_ns
        ):
            self.request_key_frame(now_ns)
        return requests

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        self._stream.sender_report(report, arrival_ns)
        self._sync.report(report)

    def report_block(self, now_ns: int) -> ReportBlock | None:
        """The report about the track to its sender. None: nothing has arrived yet."""
        return self._stream.report_block(now_ns)

    def tick(self, now_ns: int) -> None:
        """Call it about once a second: checks time-outs that do not depend on packets."""
        self._pictures.retry(now_ns)
        self._sound.retry(now_ns)
        if self._demand.is_open:
            self.request_key_frame(now_ns)

    def request_key_frame(self, now_ns: int) -> None:
        if self.ssrc and self._demand.may_ask(now_ns, self._stream.round_trip_ns):
            self._feedback.key_frame(self.ssrc)

    # --- PictureTaker and SoundTaker

    def on_unit(self, timestamp: int, unit: AccessUnit, arrival_ns: int) -> None:
        assert self.codec is not None
        self._demand.is_open = False
        if self._budget is None:
            return
        self._judge(self._budget.media(self._amount(unit), self._arrived_ns))
        after_gap, self._after_gap = self._after_gap, False
        self._sync.frame(timestamp, unit, self.codec, after_gap, arrival_ns)

    def on_first_key_frame(self, codec: VideoCodec, unit: AccessUnit) -> None:
        self._feedback.first_key_frame(self, codec, unit)

    def on_blank(self) -> None:
        self.stats.blank += 1
        self._demand.is_open = False

    def on_unusable(self, timestamp: int, arrival_ns: int, now_ns: int) -> None:
        self.stats.dropped += 1
        if self._budget is not None:
            self._sync.unusable(timestamp, arrival_ns)
        self._demand.is_open = True
        if not self._demand.follows_precaution(now_ns):
            self.request_key_frame(now_ns)

    def on_lost_sound(self) -> None:
        self.stats.dropped += 1

    def on_malformed(self, error: MalformedPayload) -> None:
        _log.debug("track %s: %s", self.track_sid, error)

    def on_undecryptable(self, cipher: TrackCipher, error: Undecryptable) -> None:
        _log.debug("track %s: %s", self.track_sid, error)
        self._judge(cipher.trouble())

    # --- inside

    def _judge(self, reason: Reason | None) -> None:
        if reason is not None:
            self._feedback.over_budget(self, reason)

    def _ask_to_be_woken(self) -> None:
        due_ns = self.next_due_ns()
        if due_ns is not None:
            self._feedback.wake(due_ns)

    def _switch(self, packet: RtpPacket) -> PayloadType:
        """Changes to the payload type of the packets delivered from here on."""
        kind = self._stream.type_of(packet)
        assert kind is not None
        previous, self._type = self._type, kind
        codec = kind.encoding.codec
        if previous is None or previous.clock_rate != kind.clock_rate:
            self._sync.start(kind.clock_rate)
        if codec != self.codec:
            self.codec = codec
            self._pictures.switch(codec if isinstance(codec, VideoCodec) else None)
            self._feedback.codec(self, codec)
        return kind

    def _deliver(self, ready: list[Delivered], now_ns: int) -> None:
        for packet in ready:
            if packet is None:
                self.stats.gaps += 1
                self._after_gap = True
                self._pictures.gap()
            elif packet.payload:
                kind = self._type
                if kind is None or packet.payload_type != kind.number:
                    kind = self._switch(packet)
                if isinstance(self.codec, AudioCodec):
                    self._sound.put(packet, kind, self.codec, self._arrived_ns)
                else:
                    self._pictures.put(packet, now_ns)

    def _amount(self, unit: AccessUnit) -> float:
        """The amount for TrackBudget.media. A malformed packet costs as much as a valid one."""
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
