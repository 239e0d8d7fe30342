import heapq
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.units import MS
from openegress.room.rtp.nack import AUDIO, NackPolicy
from openegress.room.rtp.packets import RtpPacket
from openegress.room.rtp.reorder import MAX_AHEAD_PACKETS, Delivered, Reorderer
from testkit.udp_relay import Impairment, Path

POLICY = NackPolicy()


def packet(sequence: int) -> RtpPacket:
    return RtpPacket(1, 96, sequence & 0xFFFF, 0, False, sequence.to_bytes(4))


def numbers(delivered: list[Delivered]) -> list[int | None]:
    return [None if each is None else int.from_bytes(each.payload) for each in delivered]


def run(
    arrivals: list[int | tuple[int, int]], policy: NackPolicy = POLICY
) -> tuple[list[int | None], Reorderer]:
    """Arrivals by sequence, or (sequence, at ms); then time passes until nothing is missing."""
    reorderer = Reorderer(policy)
    out: list[int | None] = []
    now_ms = 0
    for each in arrivals:
        sequence, at_ms = each if isinstance(each, tuple) else (each, now_ms + 1)
        while (due_ns := reorderer.next_due_ns()) is not None and due_ns < at_ms * MS:
            out += numbers(reorderer.due(due_ns)[1])
        now_ms = at_ms
        out += numbers(reorderer.push(packet(sequence), now_ms * MS))
    while (due_ns := reorderer.next_due_ns()) is not None:
        out += numbers(reorderer.due(due_ns)[1])
    return out, reorderer


@pytest.mark.parametrize(
    ("arrivals", "delivered"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([5, 7, 6, 8], [5, 6, 7, 8]),
        ([5, 6, 6, 5, 7], [5, 6, 7]),
        ([5, 8, 8, 6, 7, 7], [5, 6, 7, 8]),
        ([65534, 65535, 65536, 65537], [65534, 65535, 65536, 65537]),
        ([65535, 65537, 65536], [65535, 65536, 65537]),
        ([0, 2, 1], [0, 1, 2]),
        ([5, 7, 8], [5, None, 7, 8]),
        ([5, 7, 9, 10], [5, None, 7, None, 9, 10]),
        ([5, 8, (6, 20)], [5, 6, None, 8]),
        ([5, 4, 6], [5, 6]),
        ([5, (7, 2), (6, 1700), (8, 1701)], [5, None, 7, 8]),
    ],
    ids=str,
)
def test_order(arrivals: list[int | tuple[int, int]], delivered: list[int | None]) -> None:
    assert run(arrivals)[0] == delivered


def test_counts() -> None:
    stats = run([1, 2, 4, (3, 5), 6, (5, 160), 8, (9, 1900), (7, 1950), 2])[1].stats
    assert (stats.reordered, stats.recovered, stats.lost, stats.late) == (1, 1, 1, 2)
    assert stats.requests > 3


@pytest.mark.parametrize(("round_trip_ms", "first_ms"), [(2, 108), (30, 80), (90, 20), (105, 10), (300, 10)])
def test_requests_start_once_they_are_heard_grow_apart_and_end(round_trip_ms: int, first_ms: int) -> None:
    reorderer = Reorderer()
    reorderer.push(packet(8), 0)
    reorderer.push(packet(10), 0)
    assert reorderer.due(109 * MS)[0] == []
    assert reorderer.due(110 * MS)[0] == [9 + 0x10000]
    answered_ns = (110 + round_trip_ms) * MS
    reorderer.push(packet(9), answered_ns)
    assert reorderer.round_trip_ns == round_trip_ms * MS
    reorderer.push(packet(12), answered_ns)
    due_ns = reorderer.next_due_ns()
    assert due_ns is not None and due_ns - answered_ns == first_ms * MS


def test_requests_grow_apart_and_end() -> None:
    reorderer = Reorderer()
    reorderer.push(packet(8), 0)
    reorderer.push(packet(10), 0)
    reorderer.due(110 * MS)
    reorderer.push(packet(9), 112 * MS)
    reorderer.push(packet(12), 112 * MS)
    times = []
    while (due_ns := reorderer.next_due_ns()) is not None:
        requests, _ = reorderer.due(due_ns)
        if requests:
            times.append(due_ns // MS - 112)
    assert times[1] - times[0] == 40
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= 250
    assert 1000 < times[-1] < POLICY.patience_ns // MS


def given_up_after_ms(missing: range, arrivals_ms: list[int]) -> int:
    """How long after they were found missing. Packets without a loss come at `arrivals_ms` after that."""
    reorderer = Reorderer(AUDIO)
    sequence = missing.stop
    reorderer.push(packet(missing.start - 1), 0)
    reorderer.push(packet(sequence), 0)
    arrivals = [at_ms * MS for at_ms in arrivals_ms]
    while (due_ns := reorderer.next_due_ns()) is not None:
        if arrivals and arrivals[0] <= due_ns:
            sequence += 1
            assert reorderer.push(packet(sequence), arrivals.pop(0)) == []
        elif None in reorderer.due(due_ns)[1]:
            assert not reorderer.missing
            return due_ns // MS
    raise AssertionError("given up quietly")


VOICE = list(range(20, 3000, 20))
COMFORT_NOISE = list(range(400, 3000, 400))


@pytest.mark.parametrize(
    ("missing", "arrivals_ms", "after_ms"),
    [
        (range(10, 11), VOICE, 700),
        (range(10, 34), VOICE, 700),
        (range(10, 11), COMFORT_NOISE, 700),
        (range(10, 11), [], 700),
        (range(10, 60), VOICE, 700),  # of the publisher's own network: nobody has them
        (range(10, 60), [100, *VOICE[50:]], 1020),  # all that comes has to queue up
        (range(10, 60), [], 1500),
    ],
)
def test_sound_that_is_lost_for_good_is_not_waited_for_for_long(
    missing: range, arrivals_ms: list[int], after_ms: int
) -> None:
    assert given_up_after_ms(missing, arrivals_ms) == after_ms


def test_all_of_an_outage_that_comes_late_is_taken() -> None:
    """Behind a key frame, say, that was sent again as well."""
    reorderer = Reorderer(AUDIO)
    reorderer.push(packet(9), 0)
    assert reorderer.push(packet(260), 5000 * MS) == []
    while (due_ns := reorderer.next_due_ns()) is not None and due_ns < 6400 * MS:
        assert reorderer.due(due_ns)[1] == []
    delivered = [each for seq in range(10, 260) for each in reorderer.push(packet(seq), 6400 * MS)]
    assert numbers(delivered) == list(range(10, 261))


def repeating(
    arrivals: list[int | tuple[int, tuple[int, ...]]], step: int = 960
) -> tuple[list[int | None], Reorderer]:
    """Arrivals by sequence, with what they repeat; `step` of RTP time between two. No time passes."""
    repeated = {each[0]: each[1] for each in arrivals if isinstance(each, tuple)}

    def repeats(packet: RtpPacket) -> list[int]:
        sequence = int.from_bytes(packet.payload)
        return [(sequence - each) * step for each in repeated.get(sequence, ())]

    reorderer = Reorderer(AUDIO, repeats)
    out: list[int | None] = []
    for each in arrivals:
        sequence = each[0] if isinstance(each, tuple) else each
        timestamp = sequence * step & 0xFFFFFFFF
        out += numbers(reorderer.push(packet(sequence)._replace(timestamp=timestamp), 0))
    return out, reorderer


@pytest.mark.parametrize(
    ("arrivals", "delivered"),
    [
        ([5, (7, (6,))], [5, 7]),
        ([5, (8, (6, 7)), 9], [5, 8, 9]),
        ([5, (8, (5, 6, 7))], [5, 8]),
        ([5, (7, (6,)), (9, (8,))], [5, 7, 9]),
        # Not all of it is there.
        ([5, (8, (7,)), 9], [5]),
        ([5, (7, ()), (8, (7,))], [5]),
        # What is missing is not what is repeated: it may come yet.
        ([5, (7, (5,)), 6], [5, 6, 7]),
        ([5, (8, (5, 6)), 7], [5]),
        ([5, (7, (6, 6)), 8], [5, 7, 8]),
        ([5, (8, (7, 7))], [5]),
        # One comes after all, and then the next packet repeats the rest.
        ([5, (8, (7,)), 6], [5, 6, 8]),
        ([5, (8, (7,)), (10, (9,)), 6], [5, 6, 8, 10]),
        # Made up for already.
        ([5, (7, (6,)), 6, 8], [5, 7, 8]),
    ],
    ids=str,
)
def test_what_the_packet_behind_repeats_is_not_waited_for(
    arrivals: list[int | tuple[int, tuple[int, ...]]], delivered: list[int | None]
) -> None:
    out, reorderer = repeating(arrivals)
    assert out == delivered
    assert reorderer.missing == (len(delivered) == 1)
    assert (reorderer.next_due_ns() is None) == (len(delivered) > 1)


def test_a_wrap_around_of_rtp_time_hides_no_repetition() -> None:
    at = (1 << 32) // 960 + 1  # the first packet after it
    out, reorderer = repeating([at - 2, (at, (at - 1,)), (at + 2, (at + 1,))])
    assert out == [at - 2, at, at + 2]
    assert reorderer.stats.repeated == 2


def test_nothing_is_due_while_nothing_is_missing() -> None:
    reorderer = Reorderer()
    for sequence in (1, 2, 4, 3):
        reorderer.push(packet(sequence), 0)
    assert reorderer.next_due_ns() is None
    assert not reorderer.missing


def test_a_retransmission_fills_a_gap_but_starts_nothing() -> None:
    reorderer = Reorderer()
    assert reorderer.push(packet(4), 0, retransmitted=True) == []
    reorderer.push(packet(5), 0)
    reorderer.push(packet(7), 0)
    reorderer.due(110 * MS)
    assert numbers(reorderer.push(packet(6), 120 * MS, retransmitted=True)) == [6, 7]
    assert reorderer.stats.recovered == 1


@pytest.mark.parametrize("start", [0, 40_000, 65_535])
def test_a_jump_ahead_begins_anew(start: int) -> None:
    out, reorderer = run([start, start + 1, start + MAX_AHEAD_PACKETS + 50, start + MAX_AHEAD_PACKETS + 51])
    assert out == [start, start + 1, None, start + MAX_AHEAD_PACKETS + 50, start + MAX_AHEAD_PACKETS + 51]
    assert reorderer.stats.resets == 1
    assert reorderer.stats.lost == 0


def test_a_jump_back_is_believed_at_the_second_packet() -> None:
    out, reorderer = run([20_000, 20_001, 100, 101, 102])
    assert out == [20_000, 20_001, None, 101, 102]
    assert reorderer.stats.resets == 1
    assert reorderer.highest & 0xFFFF == 102


def test_a_single_stray_packet_changes_nothing() -> None:
    assert run([20_000, 20_001, 100, 20_002, 101, 20_003])[0] == [20_000, 20_001, 20_002, 20_003]


def test_what_waits_is_delivered_before_a_new_beginning() -> None:
    out, _ = run([1, 2, 4, 40_000 + 4])
    assert out[:4] == [1, 2, None, 4]


def test_flush_gives_everything() -> None:
    reorderer = Reorderer()
    for sequence in (1, 3, 6):
        reorderer.push(packet(sequence), 0)
    assert numbers(reorderer.flush()) == [None, 3, None, 6]
    assert reorderer.flush() == []


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    start=st.integers(0, 65_535),
    count=st.integers(1, 400),
    loss=st.floats(0, 0.5),
    doubles=st.floats(0, 0.3),
    spread_ms=st.integers(0, 8),
)
def test_lost_doubled_and_mixed_up_packets_all_come_once_and_in_order(
    seed: int, start: int, count: int, loss: float, doubles: float, spread_ms: int
) -> None:
    """A server that answers every request after 30 ms, itself as lossy."""
    chance = random.Random(seed)
    reorderer = Reorderer()
    arrivals: list[tuple[float, int, bool]] = []
    for index in range(count):
        sequence = start + index
        if index and index < count - 1 and chance.random() < loss:
            continue
        # The first packet comes first: what is before it cannot be known to have existed.
        late = chance.uniform(0, spread_ms) if index else 0
        arrivals.append((index * 2 + late, sequence, False))
        if chance.random() < doubles:
            arrivals.append((index * 2 + late + chance.uniform(0, 50), sequence, False))
    out: list[int | None] = []
    given_up: set[int] = set()
    while arrivals or reorderer.next_due_ns() is not None:
        due_ns = reorderer.next_due_ns()
        upcoming = min(arrivals, default=None)
        if upcoming is not None and (due_ns is None or upcoming[0] * MS <= due_ns):
            arrivals.remove(upcoming)
            at_ms, sequence, repeated = upcoming
            out += numbers(reorderer.push(packet(sequence), int(at_ms * MS), retransmitted=repeated))
            continue
        assert due_ns is not None
        requests, ready = reorderer.due(due_ns)
        out += numbers(ready)
        for request in requests:
            original = start + ((request - start) & 0xFFFF)
            given_up.add(original)
            if chance.random() >= loss:
                arrivals.append((due_ns / MS + 30, original, True))
    got = [each for each in out if each is not None]
    assert got == sorted(set(got))
    assert got[0] == start
    assert got[-1] == start + count - 1
    lost = set(range(start, start + count)) - set(got)
    assert lost <= given_up
    assert len(lost) == reorderer.stats.lost
    assert bool(lost) == (None in out)


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=300))
def test_any_numbers_at_all(sequences: list[int]) -> None:
    reorderer = Reorderer()
    for at_ms, sequence in enumerate(sequences):
        reorderer.push(packet(sequence), at_ms * MS)
        if at_ms % 7 == 0:
            reorderer.due(at_ms * MS)
    reorderer.flush()
    assert not reorderer.missing
    assert reorderer.stats.received == len(sequences)


def test_what_is_lost_in_a_full_queue_is_asked_for_no_faster_than_it_drains() -> None:
    """A key frame of 60 packets on a path of 500 kbit/s, whose queue takes 17, and 250 kbit/s behind it."""
    path, reorderer = Path(Impairment(kbps=500)), Reorderer()
    size, every_ms, answers, sent_s = 1100, 36, Counter[int](), dict[int, float]()
    sent = [(0, sequence) for sequence in range(1, 61)]
    sent += [(number * every_ms, 60 + number) for number in range(1, 250)]
    coming: list[tuple[float, int, bool]] = []

    def send(sequence: int, at_s: float, *, again: bool) -> None:
        sent_s[sequence] = at_s
        arrives_s = path.delivered_at(size, at_s)
        if arrives_s is not None:
            heapq.heappush(coming, (arrives_s, sequence, again))

    out: list[int | None] = []
    for now_ms in range(0, 9_000, 2):
        while sent and sent[0][0] <= now_ms:
            send(sent.pop(0)[1], now_ms / 1000, again=False)
        while coming and coming[0][0] * 1000 <= now_ms:
            _, sequence, again = heapq.heappop(coming)
            out += numbers(reorderer.push(packet(sequence), now_ms * MS, retransmitted=again))
        if (due_ns := reorderer.next_due_ns()) is not None and due_ns <= now_ms * MS:
            requests, ready = reorderer.due(now_ms * MS)
            out += numbers(ready)
            for wrapped in requests:
                sequence = wrapped - 0x10000
                if answers[sequence] < 3 and now_ms / 1000 - sent_s[sequence] > 0.1:
                    answers[sequence] += 1
                    send(sequence, now_ms / 1000, again=True)
    assert out == list(range(1, 1 + len(out))) and len(out) > 300
    assert reorderer.stats.lost == 0
    assert answers.total() < 2 * len(answers)


def test_what_is_lost_anew_is_asked_for_before_what_nobody_has() -> None:
    """Ten packets that the server has not, and then one that it has: that is asked for as soon as any."""
    reorderer = Reorderer()
    for sequence in (0, *range(11, 100)):
        reorderer.push(packet(sequence), sequence * 10 * MS)
        reorderer.due(sequence * 10 * MS)
    reorderer.push(packet(101), 1010 * MS)
    assert 100 + 0x10000 in reorderer.due(1120 * MS)[0]


class DeafServer:
    """Sends a packet every `every_ms`, of which one in ten is lost, and again what it is asked for as
    livekit-server does: three times, and not within 100 ms of sending it."""

    def __init__(self, round_trip_ms: int, every_ms: int) -> None:
        self.way_ms = round_trip_ms // 2
        self.every_ms = every_ms
        self.coming: list[tuple[int, int, bool]] = []
        self._sent_ms: dict[int, int] = {}
        self._answers = Counter[int]()
        self._chance = random.Random(7)

    def send(self, sequence: int, at_ms: int, *, again: bool) -> None:
        self._sent_ms[sequence] = at_ms
        if sequence == 0 or self._chance.random() >= 0.1:
            heapq.heappush(self.coming, (at_ms + self.way_ms, sequence, again))

    def asked(self, sequence: int, now_ms: int) -> None:
        heard_ms = now_ms + self.way_ms
        if self._answers[sequence] < 3 and heard_ms - self._sent_ms[sequence] > 100:
            self._answers[sequence] += 1
            self.send(sequence, heard_ms, again=True)


@pytest.mark.parametrize(("policy", "every_ms"), [(AUDIO, 20), (POLICY, 3)], ids=["sound", "pictures"])
@pytest.mark.parametrize("read_every_ms", [1, 100])
@pytest.mark.parametrize("round_trip_ms", [0, 10, 20, 50, 80])
def test_a_server_that_hears_no_early_request_answers_in_time(
    policy: NackPolicy, every_ms: int, read_every_ms: int, round_trip_ms: int
) -> None:
    """Less sound is lost than is lost four times, and the round trip is what it is, however seldom the socket
    is read: the kernel tells when a packet came."""
    server, reorderer = DeafServer(round_trip_ms, every_ms), Reorderer(policy)
    for now_ms in range(20_000):
        if now_ms % every_ms == 0:
            server.send(now_ms // every_ms, now_ms, again=False)
        due_ns = reorderer.next_due_ns()
        is_due = due_ns is not None and due_ns <= now_ms * MS
        while (is_due or now_ms % read_every_ms == 0) and server.coming and server.coming[0][0] <= now_ms:
            at_ms, sequence, again = heapq.heappop(server.coming)
            came = packet(sequence)._replace(arrival_ns=at_ms * MS)
            reorderer.push(came, now_ms * MS, retransmitted=again)
        if is_due:
            for wrapped in reorderer.due(now_ms * MS)[0]:
                server.asked(wrapped - 0x10000, now_ms)
    assert reorderer.stats.recovered > 50
    assert reorderer.stats.lost <= reorderer.stats.recovered // 100
    assert reorderer.round_trip_ns == round_trip_ms * MS


def test_an_outage_is_made_up_for_within_the_time_that_pictures_have() -> None:
    """A second of 5 Mbit/s, on a path that takes twenty."""
    reorderer = Reorderer()
    reorderer.push(packet(0), 0)
    reorderer.push(packet(500), 0)
    coming: list[tuple[int, int]] = []
    for now_ms in range(1, 1500):
        while coming and coming[0][0] <= now_ms:
            reorderer.push(packet(heapq.heappop(coming)[1]), now_ms * MS, retransmitted=True)
        for wrapped in reorderer.due(now_ms * MS)[0]:
            heapq.heappush(coming, (now_ms + 30, wrapped - 0x10000))
    assert not reorderer.missing and reorderer.stats.lost == 0
