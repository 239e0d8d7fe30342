"""Puts the packets of a track in order and recovers lost ones, over one SSRC after the other. Pure."""

from collections.abc import Iterable, Mapping

from openegress.core.codecs import VideoCodec
from openegress.room.rtp.depacketise import MalformedPayload, red
from openegress.room.rtp.nack import AUDIO, VIDEO, NackPolicy
from openegress.room.rtp.packets import RtpPacket, unwrap_rtx
from openegress.room.rtp.reception import Reception
from openegress.room.rtp.reorder import MAX_AHEAD_PACKETS, Delivered, Reorderer
from openegress.room.rtp.rtcp import ReportBlock, SenderReport
from openegress.room.signalling.sdp import Encoding, PayloadType


class RtpStream:
    """The packets of one track. Not bound to an event loop: callers give times, as monotonic ns."""

    def __init__(self, policy: NackPolicy | None) -> None:
        """`policy` defaults to that of the track's kind."""
        self.ssrc = 0
        self.rtx_ssrc: int | None = None
        self.packets = 0
        """Packets so far, received or missing."""
        self._policy = policy
        self._types: Mapping[int, PayloadType] = {}
        self._repaired: dict[int, int] = {}
        """The payload types of repeated packets, by the payload type of their retransmissions."""
        self._reorderer = Reorderer(policy)
        """Replaced when the first packet shows what is received."""
        self._reception = Reception()
        self._lost_before = 0
        """Lost packets of ended SSRCs."""

    def map(self, rtx_ssrc: int | None, types: Mapping[int, PayloadType]) -> None:
        """Takes an SSRC from an offer."""
        self._types = types
        self._repaired = {each.rtx_number: each.number for each in types.values() if each.rtx_number}
        self.rtx_ssrc = rtx_ssrc

    def restart(self) -> None:
        """Prepares for packets that are unrelated to earlier ones."""
        self._lost_before += self._reorderer.stats.lost
        self._reorderer = Reorderer(self._policy)
        self._reception = Reception()

    def type_of(self, packet: RtpPacket) -> PayloadType | None:
        """The payload type of a packet; None: it does not belong to this track."""
        return self._types.get(packet.payload_type)

    def put(self, packet: RtpPacket, kind: PayloadType, now_ns: int) -> list[Delivered]:
        """Takes a packet. Returns the packets that are in order now. `kind`: its type_of()."""
        if self._reorderer.highest < 0:
            if not packet.payload:
                return []  # a probe before the first packet: nothing counts yet
            self._begin(kind)
        self._reception.arrived(packet.timestamp, packet.arrival_ns, kind.clock_rate)
        reorderer = self._reorderer
        highest = reorderer.highest
        ready = reorderer.push(packet, now_ns)
        ahead = reorderer.highest - highest
        self.packets += ahead if 1 < ahead <= MAX_AHEAD_PACKETS else 1
        return ready

    def put_retransmission(self, packet: RtpPacket, now_ns: int) -> list[Delivered]:
        """Takes a retransmission. Returns the packets that are in order now."""
        number = self._repaired.get(packet.payload_type)
        original = unwrap_rtx(packet)
        if original is None or number is None:
            return []
        recovered = self._reorderer.stats.recovered
        ready = self._reorderer.push(original._replace(payload_type=number), now_ns, retransmitted=True)
        self._reception.counted += self._reorderer.stats.recovered - recovered
        return ready

    def next_due_ns(self) -> int | None:
        return self._reorderer.next_due_ns()

    def due(self, now_ns: int) -> tuple[list[int], list[Delivered]]:
        """The sequence numbers to request now, and the packets that are in order after hopeless ones are
        given up."""
        return self._reorderer.due(now_ns)

    @property
    def is_missing(self) -> bool:
        """Whether it waits for packets."""
        return bool(self._reorderer.missing)

    @property
    def doubtful_since_ns(self) -> int | None:
        """See Reorderer."""
        return self._reorderer.doubtful_since_ns

    @property
    def round_trip_ns(self) -> int | None:
        """See Reorderer."""
        return self._reorderer.round_trip_ns

    @property
    def lost_packets(self) -> int:
        """Packets given up so far."""
        return self._lost_before + self._reorderer.stats.lost

    def flush(self) -> list[Delivered]:
        return self._reorderer.flush()

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        self._reception.sender_report(report, arrival_ns)

    def report_block(self, now_ns: int) -> ReportBlock | None:
        """The report about the SSRC to its sender. None: nothing has arrived yet."""
        if self._reorderer.highest < 0 or not self.ssrc:
            return None
        expected, highest = self._reorderer.expected, self._reorderer.highest - 0x10000
        return self._reception.block(self.ssrc, expected, highest, now_ns)

    def _begin(self, kind: PayloadType) -> None:
        """Prepares for an SSRC, by the type of its first packet."""
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
            return ()  # reported when it is delivered
