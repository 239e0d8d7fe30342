"""A call without sockets: senders with clocks and faults, an SFU, a network, and the real receive core.

True time is ours, in ns since the call began. For each frame the truth is known: when it was captured, when
it arrived, and so between which times a listener in the room had it. Hours pass in milliseconds.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import MS, S
from openegress.room import EncodedFrame, TrackKey, TrackSource
from openegress.room.budget import Reason
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp.packets import RtpPacket
from openegress.room.rtp.rtcp import SenderReport
from openegress.room.signalling.sdp import Encoding, PayloadType
from openegress.room.sync.participant import RoomSync
from testkit.simulated_socket import Reading, SimulatedSocket, Span

WALL_NS = 1_700_000_000 * S
TYPES = {
    96: PayloadType(96, Encoding.VP8, 90_000, 1, 97, ()),
    111: PayloadType(111, Encoding.OPUS, 48_000, 2, None, ()),
    63: PayloadType(63, Encoding.RED, 48_000, 2, None, ()),
}
VP8_KEY = bytes.fromhex("103033009d012a8002680101c7")
VP8_DELTA = b"\x10\x31"
PUBLISHER_REPORT_NS = 5 * S
OVERTAKEN_NS = 600 * MS
"""Less than room.rtp.nack.AUDIO's patience."""
RESEND_PAUSE_NS = 100 * MS
MAX_RESENT = 3
"""livekit-server answers a packet's requests so many times at most, and none within RESEND_PAUSE_NS after it
sent the packet, for the first time or again."""
RTX_SSRC = 10_000
SFU_REPORT_NS = 3 * S
"""As in livekit-server: it continues from the publisher's newest report by its own clock."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a device."""

    off_ns: int = 0
    ppm: float = 0.0

    def elapsed(self, true_ns: int) -> int:
        return true_ns + int(true_ns * self.ppm / 1e6)

    def ntp(self, true_ns: int) -> int:
        return WALL_NS + self.elapsed(true_ns) + self.off_ns


@dataclass(frozen=True, slots=True)
class Network:
    """The path from the capture to the recorder. `held`: nothing gets through, and everything comes at the
    end."""

    delay_ns: int = 20 * MS
    jitter_ns: int = 0
    keeps_order: bool = False
    """Jitter is that of a queue: no packet overtakes another."""
    loss: float = 0.0
    resends: bool = False
    """The server resends requested packets. Otherwise lost packets were lost before the server."""
    held: tuple[Span, ...] = ()
    slower: tuple[tuple[Span, int], ...] = ()
    """While it lasts, the path takes this much longer."""
    queues: tuple[tuple[Span, int], ...] = ()
    """Something large is sent first: the path takes this much longer at first, then less and less."""

    def arrival(self, sent_ns: int, rng: random.Random) -> int:
        at_ns = sent_ns + self.delay_ns + (int(rng.random() * self.jitter_ns) if self.jitter_ns else 0)
        at_ns += sum(by_ns for span, by_ns in self.slower if span.holds(sent_ns))
        at_ns += sum(
            by_ns * (span.at_ns + span.long_ns - sent_ns) // span.long_ns
            for span, by_ns in self.queues
            if span.holds(sent_ns)
        )
        for span in self.held:
            if span.holds(at_ns):
                at_ns = span.at_ns + span.long_ns + (at_ns - span.at_ns) // 50
        return at_ns


Reports = Callable[[int, int, int], tuple[int, int] | None]
"""(number of the report, NTP ns, RTP time) as a sane sender would send them -> what is sent; None:
nothing."""


def sane(number: int, ntp_ns: int, rtp: int) -> tuple[int, int] | None:
    return ntp_ns, rtp


def no_reports(number: int, ntp_ns: int, rtp: int) -> tuple[int, int] | None:
    return None


@dataclass(frozen=True, slots=True)
class Publication:
    """One track as its sender captures and sends it."""

    kind: MediaKind
    identity: str = "ada"
    source: TrackSource = TrackSource.UNKNOWN
    clock: Clock = field(default_factory=Clock)
    network: Network = field(default_factory=Network)
    encoding_ns: int = 5 * MS
    begins_ns: int = 0
    ends_ns: int = 1 << 62
    every_ns: int = 0
    """0: 20 ms of sound, 33.3 ms of picture."""
    stalls: tuple[Span, ...] = ()
    """Nothing is captured, and RTP time stands still."""
    mutes: tuple[Span, ...] = ()
    """Nothing is sent, and RTP time goes on."""
    dtx: tuple[Span, ...] = ()
    """One packet in 400 ms."""
    jumps: tuple[tuple[int, int], ...] = ()
    """(when, how far) RTP time jumps, in RTP units."""
    reports: Reports = sane
    first_report_ns: int = 700 * MS
    red: bool = False
    first_rtp: int = 0

    @property
    def rate(self) -> int:
        return 48_000 if self.kind is MediaKind.AUDIO else 90_000

    @property
    def step_ns(self) -> int:
        return self.every_ns or (20 * MS if self.kind is MediaKind.AUDIO else S // 30)


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one frame: the earliest and latest time at which a listener had it, and its place in
    the call."""

    captured_ns: int
    earliest_ns: int
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class Received:
    truth: Truth
    placed_ns: int
    given_ns: int
    """When the receive core handed it out."""
    frame: EncodedFrame

    @property
    def error_ns(self) -> int:
        """How far it lies outside the time in which a listener had it; negative is too early."""
        if self.placed_ns < self.truth.earliest_ns:
            return self.placed_ns - self.truth.earliest_ns
        return max(0, self.placed_ns - self.truth.arrived_ns)


@dataclass(slots=True)
class _Packet:
    captured_ns: int
    sent_ns: int
    rtp: int
    payload: bytes
    payload_type: int
    sequence: int


@dataclass(slots=True)
class _Lost:
    packet: _Packet
    sent_ns: int
    """By the server, for the first time or again."""
    answers: int = 0


class SimulatedTrack:
    """A publication, and the receive core's result. Implements receiver.Feedback."""

    def __init__(self, call: "SimulatedCall", publication: Publication, number: int) -> None:
        self.publication = publication
        self.received: list[Received] = []
        self.sent: list[int] = []
        """Capture times of frames that were sent and arrived, at first or sent again."""
        self._lost: dict[int, _Lost] = {}
        """Packets that may be requested, by sequence number."""
        self.listeners: list[Callable[[EncodedFrame], None]] = []
        self._call = call
        self._rng = random.Random(call.seed * 1000 + number)
        self._truth: dict[int, Truth] = {}
        self._wake_ns: int | None = None
        key = TrackKey(publication.identity, publication.kind, publication.source, str(number))
        self.receiver = TrackReceiver(f"TR_{number}", key, self._on_frame, self, call.sync, WALL_NS)
        self._ssrc = number + 1
        self._rtx_ssrc = RTX_SSRC + number
        self.receiver.attach(
            self._ssrc, self._rtx_ssrc if publication.kind is MediaKind.VIDEO else None, TYPES
        )
        self._report: tuple[int, int, int] | None = None
        """(NTP ns, RTP time, true ns) of the publisher's newest report, as the SFU has it."""
        self._call.feed(self._packets())
        self._call.feed(self._publisher_reports())
        self._call.feed(self._sfu_reports())

    def errors_ns(self, since_ns: int = 0) -> list[int]:
        return [each.error_ns for each in self.received if each.truth.captured_ns >= since_ns]

    def in_time(self) -> list[int]:
        """Capture times of frames that arrived, except those that others overtook by more than a lost packet
        is waited for."""
        found: list[int] = []
        first_ns = 1 << 62
        for captured_ns in sorted(self.sent, reverse=True):
            arrived_ns = self._truth[captured_ns].arrived_ns
            first_ns = min(first_ns, arrived_ns)
            if arrived_ns - first_ns < OVERTAKEN_NS:
                found.append(captured_ns)
        return found[::-1]

    # --- what the sender does

    def _rtp(self, true_ns: int) -> int:
        """RTP time of a capture, or of a report, at a time."""
        pub = self.publication
        stood_ns = sum(max(0, min(true_ns - span.at_ns, span.long_ns)) for span in pub.stalls)
        jumped = sum(by for at_ns, by in pub.jumps if true_ns >= at_ns)
        return (pub.clock.elapsed(true_ns) - stood_ns) * pub.rate // S + jumped + pub.first_rtp & 0xFFFFFFFF

    def _reported_rtp(self, true_ns: int) -> int:
        """While capture stalls, a sender continues from the last frame by its clock."""
        stall = next((span for span in self.publication.stalls if span.holds(true_ns)), None)
        if stall is None:
            return self._rtp(true_ns)
        return self._rtp(stall.at_ns) + (true_ns - stall.at_ns) * self.publication.rate // S & 0xFFFFFFFF

    def _frames(self) -> Iterator[_Packet]:
        pub = self.publication
        sequence = itertools.count(65_000)
        quiet_until_ns = 0
        for index in itertools.count():
            at_ns = pub.begins_ns + index * pub.step_ns
            if at_ns >= pub.ends_ns:
                return
            if any(span.holds(at_ns) for span in (*pub.stalls, *pub.mutes)) or at_ns < quiet_until_ns:
                continue
            if any(span.holds(at_ns) for span in pub.dtx):
                quiet_until_ns = at_ns + 400 * MS
            marker = at_ns.to_bytes(8)
            if pub.kind is MediaKind.AUDIO:
                payload, payload_type = b"\xf8" + marker, 111
            else:
                payload, payload_type = (VP8_DELTA if index % 300 else VP8_KEY) + marker, 96
            yield _Packet(
                at_ns,
                at_ns + pub.encoding_ns,
                self._rtp(at_ns),
                payload,
                payload_type,
                next(sequence) & 0xFFFF,
            )

    def _packets(self) -> Iterator[tuple[int, Callable[[int], None]]]:
        pub = self.publication
        pending: list[tuple[int, int, _Packet]] = []
        before: _Packet | None = None
        last_ns = 0
        for packet in self._frames():
            earliest_ns = packet.captured_ns + pub.network.delay_ns
            arrived_ns = pub.network.arrival(packet.sent_ns, self._rng)
            if pub.network.keeps_order:
                arrived_ns = last_ns = max(arrived_ns, last_ns + 1)
            payload = packet.payload
            if pub.red:
                payload = _red(payload, before, packet.rtp)
            before = packet
            whole = replace(packet, payload=payload, payload_type=63 if pub.red else packet.payload_type)
            if self._rng.random() >= pub.network.loss:
                self.sent.append(packet.captured_ns)
                self._truth[packet.captured_ns] = Truth(packet.captured_ns, earliest_ns, arrived_ns)
                heapq.heappush(pending, (arrived_ns, packet.sequence, whole))
            elif pub.network.resends:
                self._lost[packet.sequence] = _Lost(whole, packet.captured_ns)
            while pending and pending[0][0] <= packet.captured_ns:
                yield self._arrival(heapq.heappop(pending)[2])
        while pending:
            yield self._arrival(heapq.heappop(pending)[2])

    def _arrival(self, packet: _Packet) -> tuple[int, Callable[[int], None]]:
        arrive = partial(self._call.socket.arrive, partial(self._take, packet))
        return self._truth[packet.captured_ns].arrived_ns, arrive

    def _take(self, packet: _Packet, arrival_ns: int, now_ns: int) -> None:
        self.receiver.rtp(self._rtp_packet(packet, arrival_ns), now_ns)

    def _rtp_packet(self, packet: _Packet, arrival_ns: int) -> RtpPacket:
        return RtpPacket(
            self._ssrc,
            packet.payload_type,
            packet.sequence,
            packet.rtp,
            True,
            packet.payload,
            arrival_ns,
        )

    # --- what the server sends again

    def _requested(self, sequence: int, now_ns: int) -> None:
        network = self.publication.network
        lost = self._lost.get(sequence)
        if lost is None or lost.answers >= MAX_RESENT or self._rng.random() < network.loss:
            return
        heard_ns = now_ns + network.delay_ns
        if heard_ns - lost.sent_ns <= RESEND_PAUSE_NS:
            return
        lost.answers, lost.sent_ns = lost.answers + 1, heard_ns
        if self._rng.random() < network.loss:
            return
        packet, arrived_ns = lost.packet, network.arrival(heard_ns, self._rng)
        if packet.captured_ns not in self._truth:
            self.sent.append(packet.captured_ns)
            earliest_ns = packet.captured_ns + network.delay_ns
            self._truth[packet.captured_ns] = Truth(packet.captured_ns, earliest_ns, arrived_ns)
        take = self._take if self.publication.kind is MediaKind.AUDIO else self._take_resent
        self._call.at(arrived_ns, partial(self._call.socket.arrive, partial(take, packet)))

    def _take_resent(self, packet: _Packet, arrival_ns: int, now_ns: int) -> None:
        """RFC 4588."""
        resent = self._rtp_packet(packet, arrival_ns)._replace(
            ssrc=self._rtx_ssrc, payload_type=97, payload=packet.sequence.to_bytes(2) + packet.payload
        )
        self.receiver.rtx(resent, now_ns)

    def _publisher_reports(self) -> Iterator[tuple[int, Callable[[int], None]]]:
        pub = self.publication
        for number in itertools.count():
            at_ns = pub.begins_ns + pub.first_report_ns + number * PUBLISHER_REPORT_NS
            if at_ns >= pub.ends_ns:
                return
            said = pub.reports(number, pub.clock.ntp(at_ns), self._reported_rtp(at_ns))
            yield at_ns, partial(self._reported, said)

    def _reported(self, said: tuple[int, int] | None, now_ns: int) -> None:
        if said is not None:
            self._report = (*said, now_ns)

    def _sfu_reports(self) -> Iterator[tuple[int, Callable[[int], None]]]:
        pub = self.publication
        for number in itertools.count(1):
            at_ns = pub.begins_ns + number * SFU_REPORT_NS
            if at_ns >= pub.ends_ns:
                return
            yield at_ns, self._send_report

    def _send_report(self, now_ns: int) -> None:
        if self._report is None:
            return
        ntp_ns, rtp, at_ns = self._report
        since_ns = now_ns - at_ns
        rtp = rtp + since_ns * self.publication.rate // S & 0xFFFFFFFF
        self.receiver.sender_report(SenderReport(self._ssrc, ntp_ns + since_ns, rtp, 0), now_ns)

    # --- what comes out

    def _on_frame(self, frame: EncodedFrame) -> None:
        truth = self._truth.get(int.from_bytes(frame.data[-8:]))
        if truth is not None:
            self.received.append(Received(truth, frame.at_ns - WALL_NS, self._call.now_ns, frame))
        for listener in self.listeners:
            listener(frame)

    # --- receiver.Feedback

    def wake(self, due_ns: int) -> None:
        if self._wake_ns is None or due_ns < self._wake_ns:
            self._wake_ns = due_ns
            self._call.at(due_ns, self._due)

    def key_frame(self, ssrc: int) -> None: ...

    def codec(self, receiver: TrackReceiver, codec: AudioCodec | VideoCodec) -> None: ...

    def first_key_frame(self, receiver: TrackReceiver, codec: VideoCodec, unit: object) -> None: ...

    def over_budget(self, receiver: TrackReceiver, reason: Reason) -> None:
        raise AssertionError(f"nobody here sends too much: {reason}")

    def _due(self, now_ns: int) -> None:
        free_ns = self._call.reading.free_ns(now_ns)
        if free_ns > now_ns:
            self._call.at(free_ns, self._due)
            return
        self._wake_ns = None
        self._call.socket.drain(now_ns)
        for sequence in self.receiver.due(now_ns):
            self._requested(sequence, now_ns)
        following_ns = self.receiver.next_due_ns()
        if following_ns is not None:
            self.wake(max(following_ns, now_ns + 5 * MS))


class SimulatedCall:
    def __init__(self, reading: Reading | None = None, seed: int = 0) -> None:
        self.seed = seed
        self.reading = reading or Reading()
        self.sync = RoomSync()
        self.now_ns = 0
        self.tracks: list[SimulatedTrack] = []
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self.socket = SimulatedSocket(self.at, self.reading)

    def publish(self, publication: Publication) -> SimulatedTrack:
        track = SimulatedTrack(self, publication, len(self.tracks))
        self.tracks.append(track)
        return track

    def at(self, at_ns: int, event: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), event))

    def feed(self, events: Iterator[tuple[int, Callable[[int], None]]]) -> None:
        """Takes frames one by one, freeing each before the next: a call of hours fits into memory."""
        following = next(events, None)
        if following is None:
            return
        at_ns, event = following

        def happen(now_ns: int) -> None:
            event(now_ns)
            self.feed(events)

        self.at(at_ns, happen)

    def run(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            at_ns, _, event = heapq.heappop(self._events)
            self.now_ns = max(self.now_ns, at_ns)
            event(self.now_ns)
        self.now_ns = max(self.now_ns, until_ns)

    def finish(self) -> None:
        for track in self.tracks:
            track.receiver.flush()


def _red(payload: bytes, before: _Packet | None, rtp: int) -> bytes:
    """RFC 2198, with the previous packet if one is close enough."""
    if before is None or not 0 < (offset := rtp - before.rtp & 0xFFFFFFFF) < 1 << 14:
        return bytes((111,)) + payload
    header = bytes((0x80 | 111,)) + (offset << 10 | len(before.payload)).to_bytes(3)
    return header + bytes((111,)) + before.payload + payload
