"""Passes the packets of a connection to the receivers of their tracks, and sends the receivers' requests.

There is one for all connections of a client, one after the other. Nothing here runs while nothing arrives:
the timer for requests of lost packets is armed only while packets are missing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.units import S
from openegress.room.budget import MAX_ROOM_PACKETS, Reason, greediest
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp import packets, rtcp
from openegress.room.rtp.depacketise import AccessUnit
from openegress.room.signalling.sdp import MediaStream, PayloadType

_log = logging.getLogger(__name__)

MIN_TIMER_S = 0.005


class Demux:
    """Implements receiver.Feedback. `on_codec` is called when a receiver learns its codec, `on_key_frame`
    when it has its first key frame, and `on_trouble` when its track costs too much or its receiver raised:
    the callee leaves the track out, and the others continue."""

    def __init__(
        self,
        on_codec: Callable[[TrackReceiver, AudioCodec | VideoCodec], None],
        on_key_frame: Callable[[TrackReceiver, VideoCodec, AccessUnit], None],
        on_trouble: Callable[[TrackReceiver, Reason], None],
    ) -> None:
        self._on_codec = on_codec
        self._on_key_frame = on_key_frame
        self._on_trouble = on_trouble
        self._send: Callable[[bytes], None] | None = None
        self._drain: Callable[[], None] | None = None
        self._ssrc = random.getrandbits(32)
        self._by_ssrc: dict[int, TrackReceiver] = {}
        self._by_rtx: dict[int, TrackReceiver] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._counted: dict[TrackReceiver, int] = {}
        """Packets of each receiver until the last tick."""
        self._ticked_ns = 0
        self.packets = 0
        """RTP and RTCP packets so far."""

    def connect(self, send_rtcp: Callable[[bytes], None], drain: Callable[[], None]) -> None:
        """A new connection, on which SSRCs of the old one have no meaning. `drain` hands in all packets that
        have arrived but are not read yet."""
        self._by_ssrc.clear()
        self._by_rtx.clear()
        self._send = send_rtcp
        self._drain = drain

    def disconnect(self) -> None:
        self._send = self._drain = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def map(
        self,
        streams: Iterable[MediaStream],
        types: Mapping[int, PayloadType],
        receivers: Mapping[str, TrackReceiver],
    ) -> None:
        """Takes an offer: which SSRC belongs to which track."""
        self._by_ssrc.clear()
        self._by_rtx.clear()
        for stream in streams:
            receiver = receivers.get(stream.track_sid)
            if receiver is None:
                continue
            receiver.attach(stream.ssrc, stream.rtx_ssrc, types)
            self._by_ssrc[stream.ssrc] = receiver
            if stream.rtx_ssrc is not None:
                self._by_rtx[stream.rtx_ssrc] = receiver

    def remove(self, receiver: TrackReceiver) -> None:
        self._counted.pop(receiver, None)
        for table in (self._by_ssrc, self._by_rtx):
            for ssrc in [each for each, known in table.items() if known is receiver]:
                del table[ssrc]

    # --- in

    def rtp(self, data: bytes, arrival_ns: int) -> None:
        now_ns = time.monotonic_ns()
        packet = packets.parse(data, arrival_ns)
        if packet is None:
            return
        self.packets += 1
        receiver = self._by_ssrc.get(packet.ssrc)
        try:
            if receiver is not None:
                receiver.rtp(packet, now_ns)
                return
            receiver = self._by_rtx.get(packet.ssrc)
            if receiver is not None:
                receiver.rtx(packet, now_ns)
        except Exception as error:
            self._broken(receiver, error)

    def rtcp(self, data: bytes, arrival_ns: int) -> None:
        self.packets += 1
        for report in rtcp.sender_reports(data):
            receiver = self._by_ssrc.get(report.ssrc)
            if receiver is None:
                continue
            try:
                receiver.sender_report(report, arrival_ns)
            except Exception as error:
                self._broken(receiver, error)

    def _broken(self, receiver: TrackReceiver | None, error: Exception) -> None:
        if receiver is None:
            raise error
        _log.error("track %s could not be received", receiver.track_sid, exc_info=error)
        self._on_trouble(receiver, Reason.TROUBLE)

    def over_budget(self, receiver: TrackReceiver, reason: Reason) -> None:
        self._on_trouble(receiver, reason)

    # --- out

    def tick(self) -> None:
        """Call it once a second: sends reports, and checks the receivers' own time-outs."""
        now_ns = time.monotonic_ns()
        blocks = []
        for receiver in list(self._by_ssrc.values()):
            try:
                receiver.tick(now_ns)
            except Exception as error:
                self._broken(receiver, error)
            block = receiver.report_block(now_ns)
            if block is not None:
                blocks.append(block)
        for packet in rtcp.receiver_reports(self._ssrc, blocks):
            self._out(packet)
        self._relieve(now_ns)

    def _relieve(self, now_ns: int) -> None:
        """Leaves tracks out if all of them together send more than the recorder can receive."""
        seconds = (now_ns - self._ticked_ns) / S
        receivers = {each.track_sid: each for each in self._by_ssrc.values()}
        rates = {
            sid: (each.key.identity, (each.packets - self._counted.get(each, each.packets)) / seconds)
            for sid, each in receivers.items()
        }
        self._ticked_ns = now_ns
        self._counted = {each: each.packets for each in receivers.values()}
        for sid in greediest(rates, MAX_ROOM_PACKETS):
            self._on_trouble(receivers[sid], Reason.SHARE)

    def wake(self, due_ns: int) -> None:
        if self._timer is not None:
            if self._timer_ns <= due_ns:
                return
            self._timer.cancel()
        delay_s = max((due_ns - time.monotonic_ns()) / S, MIN_TIMER_S)
        self._timer_ns = due_ns
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._drain is not None:
            self._drain()  # packets that wait to be read are not missing, and show where held frames belong
        now_ns = time.monotonic_ns()
        following: int | None = None
        for receiver in list(self._by_ssrc.values()):
            if receiver.next_due_ns() is None:
                continue
            try:
                requests = receiver.due(now_ns)
            except Exception as error:
                self._broken(receiver, error)
                continue
            for packet in rtcp.nacks(self._ssrc, receiver.ssrc, requests):
                self._out(packet)
            due_ns = receiver.next_due_ns()
            if due_ns is not None and (following is None or due_ns < following):
                following = due_ns
        if following is not None:
            self.wake(following)

    def key_frame(self, ssrc: int) -> None:
        self._out(rtcp.picture_loss(self._ssrc, ssrc))

    def codec(self, receiver: TrackReceiver, codec: AudioCodec | VideoCodec) -> None:
        self._on_codec(receiver, codec)

    def first_key_frame(self, receiver: TrackReceiver, codec: VideoCodec, unit: AccessUnit) -> None:
        self._on_key_frame(receiver, codec, unit)

    def _out(self, packet: bytes) -> None:
        if self._send is not None:
            self._send(packet)
