"""When a path counts as narrow, and what is reported of it: pictures over the testkit's bad networks."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.units import MS, S
from openegress.room.rtp import packets
from openegress.room.rtp.narrow_path import (
    FALL,
    HELD_NS,
    LEAST_BPS,
    LIFTED_FOR_NS,
    MOST_BPS,
    UNITS_PER_S,
    WRAP,
    NarrowPath,
    PacketCounts,
    PathState,
)
from openegress.room.rtp.rtcp import estimates
from testkit.udp_relay import CLEAR, HEADERS_BYTES, Impairment, Path

PACKET_BYTES = 1100
FPS = 25


@dataclass(frozen=True, slots=True)
class Report:
    at_s: float
    rates: list[int]


@dataclass(slots=True)
class Call:
    """A server that sends pictures of `kbps`, over a path, to a recorder. `obeys`: it sends no more than the
    last estimate."""

    network: Path
    kbps: float
    clock_rate: float = 1.0
    """Of the server's clock, against ours."""
    sent_off: int = 0
    """Of the server's clock when the call begins, in units of abs-send-time."""
    obeys: bool = False
    path: NarrowPath = field(default_factory=NarrowPath)
    reports: list[Report] = field(default_factory=list)
    now_s: float = 0.0
    _expected: int = 0
    _came: int = 0
    _pending: list[tuple[float, int, int]] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(5))

    def run(self, seconds: float) -> "Call":
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self._send_picture()
            self.now_s += 1 / FPS
            self._receive(self.now_s)
        return self

    def _send_picture(self) -> None:
        kbps = min(self.kbps, self.path.bps / 1000) if self.obeys else self.kbps
        self.send(kbps * 125 / FPS * self._random.uniform(0.5, 1.5))

    def send(self, size: float) -> None:
        """So many bytes at once."""
        count = max(1, round(size / PACKET_BYTES))
        for number in range(count):
            at_s = self.now_s + number * 0.00002
            arrives_s = self.network.delivered_at(round(size / count), at_s)
            self._expected += 1
            if arrives_s is not None:
                sent = round(at_s * UNITS_PER_S * self.clock_rate) + self.sent_off
                self._pending.append((arrives_s, sent % WRAP, round(size / count)))

    def _receive(self, until_s: float) -> None:
        self._pending.sort()
        while self._pending and self._pending[0][0] <= until_s:
            at_s, sent, size = self._pending.pop(0)
            self._came += 1
            self.path.bytes += size
            arrival_ns = 1000 * S + round(at_s * S)
            if arrival_ns < self.path.due_ns:
                continue
            if rates := self.path.take(sent, arrival_ns, self._counts):
                self.reports.append(Report(at_s, list(rates)))

    def _counts(self) -> PacketCounts:
        return PacketCounts(self._expected, self._expected - self._came - len(self._pending))


CLOCKS = st.floats(0.9998, 1.0002)
OFFSETS = st.integers(0, WRAP - 1)


@settings(max_examples=25, deadline=None)
@given(
    loss=st.floats(0, 0.2),
    burst=st.sampled_from([1.0, 3.0, 10.0]),
    delay_ms=st.floats(0, 300),
    jitter_ms=st.floats(0, 100),
    reordered=st.sampled_from([0.0, 0.05]),
    kbps=st.floats(100, 2500),
    clock_rate=CLOCKS,
    sent_off=OFFSETS,
    seed=st.integers(0, 1000),
)
def test_losses_and_jitter_are_no_bottleneck(
    loss: float,
    burst: float,
    delay_ms: float,
    jitter_ms: float,
    reordered: float,
    kbps: float,
    clock_rate: float,
    sent_off: int,
    seed: int,
) -> None:
    bad = Impairment(loss, burst, delay_ms, jitter_ms, reordered, 50.0)
    call = Call(Path(bad, seed), kbps, clock_rate, sent_off).run(20)
    assert call.reports == []


@settings(max_examples=25, deadline=None)
@given(
    capacity_kbps=st.floats(300, 1500),
    overload=st.floats(1.25, 3.0),
    queue_ms=st.floats(200, 1000),
    loss=st.floats(0, 0.05),
    clock_rate=CLOCKS,
    sent_off=OFFSETS,
    seed=st.integers(0, 1000),
)
def test_a_bottleneck_is_found_and_what_it_carries(
    capacity_kbps: float,
    overload: float,
    queue_ms: float,
    loss: float,
    clock_rate: float,
    sent_off: int,
    seed: int,
) -> None:
    narrow = Impairment(loss, delay_ms=20, kbps=round(capacity_kbps), queue_ms=queue_ms)
    call = Call(Path(narrow, seed), overload * capacity_kbps, clock_rate, sent_off).run(12)
    assert call.reports, "nothing was reported"
    first = call.reports[0]
    assert first.at_s < 10
    assert len(first.rates) == FALL and first.rates == sorted(set(first.rates), reverse=True)
    passes = capacity_kbps * PACKET_BYTES / (PACKET_BYTES + HEADERS_BYTES) * (1 - loss)
    assert 0.7 * passes < first.rates[-1] / 1000 < 0.95 * capacity_kbps


@pytest.mark.parametrize(
    ("queue_ms", "kbps"), [(50.0, 700), (300.0, 450)], ids=["a queue that drains", "a path that suffices"]
)
def test_a_path_without_a_standing_queue_is_not_judged(queue_ms: float, kbps: float) -> None:
    assert Call(Path(Impairment(kbps=500, queue_ms=queue_ms)), kbps).run(60).reports == []


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_key_frames_of_a_whole_room_are_no_bottleneck(loss: float) -> None:
    """25 cameras of 1 Mbit/s over 40 Mbit/s, all of which are asked for a key frame every few seconds."""
    call = Call(Path(Impairment(loss, kbps=40_000, queue_ms=1000)), 25_000)
    for _ in range(4):
        call.send(25 * 60_000)
        call.run(3)
    assert call.reports == []


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.2])
def test_a_longer_way_is_no_bottleneck(loss: float) -> None:
    call = Call(Path(Impairment(loss, delay_ms=20)), 2000).run(20)
    call.network.impairment = Impairment(loss, delay_ms=220)
    assert call.run(60).reports == []


def test_a_burst_after_a_cut_is_no_bottleneck() -> None:
    call = Call(Path(CLEAR), 2000).run(10)
    for _ in range(5):
        call.network.impairment = Impairment(cut=True)
        call.run(3)
        call.network.impairment = Impairment(kbps=2500, queue_ms=1000)
        call.run(10)
    assert call.reports == []


def test_an_estimate_is_held_rises_and_is_lifted_where_the_path_has_become_wide() -> None:
    call = Call(Path(Impairment(kbps=500)), 1500, obeys=True).run(8)
    assert call.path.state is PathState.NARROW
    found = call.path.bps
    call.network.impairment = CLEAR
    call.reports.clear()
    call.run(HELD_NS / S - 8)
    assert call.path.bps == found
    call.run(60)
    assert call.path.state is PathState.LIFTED
    rates = [rate for each in call.reports for rate in each.rates if len(each.rates) == 1]
    assert rates == sorted(rates) and rates[-1] == MOST_BPS
    # At least three within half a second, which a server that tries to send more looks at.
    times = [each.at_s for each in call.reports]
    assert max(later - at_s for at_s, later in zip(times, times[2:], strict=False)) < 0.5
    call.run(LIFTED_FOR_NS / S)
    assert call.path.state is PathState.CLEAR
    count = len(call.reports)
    assert len(call.run(30).reports) == count


def test_what_was_too_much_again_is_tried_again_later_each_time() -> None:
    call = Call(Path(Impairment(kbps=500)), 1500, obeys=True).run(1000)
    falls = [each.at_s for each in call.reports if len(each.rates) == FALL]
    tries = [later - at_s for at_s, later in pairwise(falls) if later - at_s > 5]
    assert len(tries) <= 8 and tries == sorted(tries), tries
    queued = call.network.delivered_at(100, call.now_s)
    assert queued is not None and queued - call.now_s < 0.1
    assert all(LEAST_BPS <= rate <= MOST_BPS for each in call.reports for rate in each.rates)


def test_a_server_that_cannot_send_less_is_asked_for_no_less_for_ever() -> None:
    call = Call(Path(Impairment(kbps=500)), 700).run(600)
    assert call.path.state is PathState.CLEAR
    assert call.reports[-1].at_s < 400


def send_times() -> Iterator[tuple[bytes, int | None]]:
    head = packets.HEADER.pack(0x90, 96, 1, 2, 3)
    sources = packets.HEADER.pack(0x92, 96, 1, 2, 3) + bytes(8)
    yield head + b"\xbe\xde\x00\x01\x32\x01\x02\x03picture", 0x010203
    yield sources + b"\xbe\xde\x00\x01\x32\x01\x02\x03picture", 0x010203
    yield head + b"\xbe\xde\x00\x01\x32\x01\x02", None
    yield head + b"\xbe\xde\x00\x01\x31\x01\x02\x00picture", None
    yield head + b"\x10\x00\x00\x01\x03\x03\x01\x02picture", None


@pytest.mark.parametrize(("data", "sent"), list(send_times()))
def test_when_a_packet_was_sent(data: bytes, sent: int | None) -> None:
    assert packets.send_time(data) == sent


@pytest.mark.parametrize("bps", [50_000, 262_143, 262_144, 344_001, 100_000_000])
def test_an_estimate_on_the_wire(bps: int) -> None:
    """draft-alvestrand-rmcat-remb-03 section 2.2."""
    (first, kind, words, sender, none, name, rate, ssrc) = struct.unpack("!BBHII4sII", estimates(1, 7, [bps]))
    assert (first, kind, words, sender, none, name, ssrc) == (0x8F, 206, 5, 1, 0, b"REMB", 7)
    assert rate >> 24 == 1
    told = (rate & 0x3FFFF) << (rate >> 18 & 0x3F)
    assert told <= bps < told * (1 + 2**-17)


def test_estimates_follow_one_another_in_one_packet() -> None:
    one, two = estimates(1, 7, [300_000]), estimates(1, 7, [200_000])
    assert estimates(1, 7, [300_000, 200_000]) == one + two and len(one) == 24


def test_milliseconds_of_abs_send_time() -> None:
    """A packet that waited 150 ms longer than the quickest."""
    path = NarrowPath()
    path.take(0, 1 * MS, PacketCounts)
    assert path._delay.of(round(0.1 * UNITS_PER_S), 250 * MS + MS) == pytest.approx(150 * MS, abs=MS)
