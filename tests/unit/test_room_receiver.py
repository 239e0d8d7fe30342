"""A track's receiver over plain calls: packets in, frames and requests out."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.room_keys import RoomKey
from openegress.core.units import MS, S
from openegress.room import EncodedFrame, TrackKey, TrackSource
from openegress.room.budget import PROBATION, SOUND, Reason
from openegress.room.frame_keys import RATCHET_WINDOW
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp.depacketise import AccessUnit
from openegress.room.rtp.frame_assembler import HELD_FOR_NS
from openegress.room.rtp.frame_cipher import MAX_FAILURES, RoomCipher, TrackCipher
from openegress.room.rtp.packets import RtpPacket
from openegress.room.rtp.rtcp import SenderReport
from openegress.room.rtp.sound_assembler import MAX_HELD as sound_held
from openegress.room.signalling.sdp import Encoding, PayloadType
from openegress.room.sync.participant import RoomSync
from testkit.sealed_frames import AtOnce, derived, sealed

WALL = 1_700_000_000 * S
KEY = bytes.fromhex("103033009d012a8002680101c7")
BLANK = bytes.fromhex("103033009d012a0800080001c7")
DELTA = b"\x10\x31delta"
TYPES = {
    45: PayloadType(45, Encoding.AV1, 90_000, 1, 46, ()),
    96: PayloadType(96, Encoding.VP8, 90_000, 1, 97, ()),
    98: PayloadType(98, Encoding.VP9, 90_000, 1, 99, ()),
    108: PayloadType(108, Encoding.H264, 90_000, 1, 109, ()),
    111: PayloadType(111, Encoding.OPUS, 48_000, 2, None, ()),
    116: PayloadType(116, Encoding.H265, 90_000, 1, 117, ()),
    63: PayloadType(63, Encoding.RED, 48_000, 2, None, ()),
}


@dataclass
class Wishes:
    """What a receiver asks for."""

    due_ns: list[int] = field(default_factory=list)
    key_frames: list[int] = field(default_factory=list)
    codecs: list[AudioCodec | VideoCodec] = field(default_factory=list)
    first_key_frames: list[tuple[VideoCodec, bytes]] = field(default_factory=list)
    troubles: list[Reason] = field(default_factory=list)

    def wake(self, due_ns: int) -> None:
        self.due_ns.append(due_ns)

    def key_frame(self, ssrc: int) -> None:
        self.key_frames.append(ssrc)

    def codec(self, receiver: TrackReceiver, codec: AudioCodec | VideoCodec) -> None:
        self.codecs.append(codec)

    def first_key_frame(self, receiver: TrackReceiver, codec: VideoCodec, unit: AccessUnit) -> None:
        self.first_key_frames.append((codec, unit.data))

    def over_budget(self, receiver: TrackReceiver, reason: Reason) -> None:
        self.troubles.append(reason)


class Bench:
    """Time runs with RTP time: the packet of RTP time 0 arrives at WALL."""

    def __init__(self, payload_type: int = 96, cipher: TrackCipher | None = None) -> None:
        self.frames: list[EncodedFrame] = []
        self.wishes = Wishes()
        self.type = TYPES[payload_type]
        kind = MediaKind.VIDEO if isinstance(self.type.encoding.codec, VideoCodec) else MediaKind.AUDIO
        key = TrackKey("alice", kind, TrackSource.UNKNOWN, "track")
        self.receiver = TrackReceiver(
            "TR_1", key, self.frames.append, self.wishes, RoomSync(), WALL, cipher=cipher
        )
        self.receiver.attach(1, 2, TYPES)
        self.sequence = 65_530
        self.now_ns = 0

    def packet(
        self, ms: int, payload: bytes, marker: bool = True, payload_type: int | None = None
    ) -> RtpPacket:
        self.sequence += 1
        timestamp = ms * self.type.clock_rate // 1000 & 0xFFFFFFFF
        number = self.type.number if payload_type is None else payload_type
        return RtpPacket(1, number, self.sequence & 0xFFFF, timestamp, marker, payload, ms * MS)

    def send(self, ms: int, payload: bytes, marker: bool = True, payload_type: int | None = None) -> None:
        self.now_ns = ms * MS
        self.receiver.rtp(self.packet(ms, payload, marker, payload_type), self.now_ns)

    def lose(self, ms: int, payload: bytes, marker: bool = True) -> RtpPacket:
        return self.packet(ms, payload, marker)

    def settle(self) -> None:
        """The first frames have waited long enough for their place."""
        self.receiver.due(self.now_ns + S)
        self.wishes.due_ns.clear()

    def report(self, ms: int) -> None:
        timestamp = ms * self.type.clock_rate // 1000 & 0xFFFFFFFF
        self.receiver.sender_report(SenderReport(1, WALL + ms * MS, timestamp, 7), self.now_ns)

    @property
    def times_ms(self) -> list[int]:
        return [(each.at_ns - WALL) // MS for each in self.frames]


def started(payload_type: int = 96, first: bytes = KEY) -> Bench:
    bench = Bench(payload_type)
    bench.send(0, first)
    bench.settle()
    return bench


def test_frames_are_held_for_a_moment_and_then_come_at_once() -> None:
    bench = Bench()
    bench.send(0, KEY)
    assert bench.frames == []
    (due_ns,) = bench.wishes.due_ns
    assert due_ns <= 150 * MS
    bench.receiver.due(due_ns)
    for index in range(1, 90):
        bench.send(index * 33, DELTA)
        assert len(bench.frames) == index + 1
    assert bench.times_ms == [index * 33 for index in range(90)]
    first = bench.frames[0]
    assert (first.codec, first.is_key, first.width, first.height) == (VideoCodec.VP8, True, 640, 360)
    assert (first.clock_rate, first.track_sid) == (90_000, "TR_1")
    assert [each.is_key for each in bench.frames[1:]] == [False] * 89
    assert bench.wishes.key_frames == []


def test_a_start_that_jitters_is_placed_by_its_quickest_packet() -> None:
    bench = Bench(111)
    for index in range(10):
        bench.now_ns = index * 20 * MS + (30 * MS if index % 3 else 5 * MS)
        packet = bench.packet(index * 20, b"opus")._replace(arrival_ns=bench.now_ns)
        bench.receiver.rtp(packet, bench.now_ns)
    assert bench.times_ms == [5 + index * 20 for index in range(10)]


def test_what_is_held_waits_for_what_is_behind_a_lost_packet() -> None:
    """The first packet is 30 ms late, and the next is lost: the third one tells."""
    bench = Bench(111)
    lost = bench.packet(20, b"opus")
    for at_ms, arrival_ms in ((0, 200), (40, 210)):
        sent = RtpPacket(1, 111, lost.sequence - 1 + at_ms // 20, at_ms * 48, True, b"opus", arrival_ms * MS)
        bench.receiver.rtp(sent, arrival_ms * MS)
    bench.receiver.due(340 * MS)
    assert bench.frames == []
    bench.receiver.rtp(lost._replace(arrival_ns=350 * MS), 350 * MS)
    bench.receiver.due(bench.wishes.due_ns[-1])
    assert bench.times_ms == [170, 190, 210]


def test_the_first_key_frame_is_shown_before_its_place_is_known() -> None:
    bench = Bench()
    bench.send(0, KEY)
    assert bench.frames == []
    assert [codec for codec, _ in bench.wishes.first_key_frames] == [VideoCodec.VP8]
    bench.settle()
    assert bench.wishes.first_key_frames[0][1] == bench.frames[0].data


def test_the_codec_is_told_once() -> None:
    bench = Bench()
    bench.send(0, KEY)
    bench.send(33, DELTA)
    assert bench.wishes.codecs == [VideoCodec.VP8]


def test_a_frame_of_several_packets() -> None:
    bench = started()
    bench.send(33, b"\x10\x31one", marker=False)
    bench.send(33, b"\x00two", marker=False)
    bench.send(33, b"\x00three")
    assert bench.frames[-1].data == b"\x31onetwothree"


def test_padding_is_counted_but_is_no_frame() -> None:
    bench = started()
    bench.send(33, b"")
    bench.send(33, DELTA)
    assert len(bench.frames) == 2


def test_a_retransmission_closes_the_gap() -> None:
    bench = started()
    lost = bench.lose(33, DELTA)
    bench.send(66, DELTA)
    assert len(bench.frames) == 1
    assert bench.receiver.due(bench.wishes.due_ns[0]) == [lost.sequence + 0x10000]
    again = lost._replace(ssrc=2, payload_type=97, payload=lost.sequence.to_bytes(2) + lost.payload)
    bench.receiver.rtx(again, 90 * MS)
    assert bench.times_ms == [0, 33, 66]
    assert bench.wishes.key_frames == []
    assert not any(each.after_gap for each in bench.frames)


def give_up(bench: Bench) -> None:
    while (due_ns := bench.receiver.next_due_ns()) is not None:
        bench.now_ns = due_ns
        bench.receiver.due(due_ns)


def test_after_a_gap_a_key_frame_is_asked_for_and_marked() -> None:
    bench = started()
    bench.lose(33, DELTA)
    bench.send(66, DELTA)
    bench.send(99, DELTA)
    give_up(bench)
    assert bench.wishes.key_frames == [1]
    bench.send(1700, DELTA)
    bench.send(1733, KEY)
    bench.send(1766, DELTA)
    assert bench.times_ms == [0, 1733, 1766]
    assert [each.after_gap for each in bench.frames] == [False, True, False]


def test_a_picture_that_was_lost_before_the_server_freezes_for_no_longer_than_has_to_be() -> None:
    """A key frame is asked for while its packet is still waited for, and once: it is there when that ends."""
    bench = started()
    bench.lose(33, DELTA)
    asked_ms = None
    for ms in range(66, 1700, 33):
        bench.send(ms, KEY if asked_ms is not None and asked_ms + 99 <= ms < asked_ms + 132 else DELTA)
        bench.receiver.due(bench.now_ns)
        if asked_ms is None and bench.wishes.key_frames:
            asked_ms = ms
    assert asked_ms is not None and 700 <= asked_ms <= 800
    assert bench.wishes.key_frames == [1]
    assert bench.frames[1].is_key and bench.times_ms[1] <= asked_ms + 132
    assert len(bench.frames) > 20


def test_a_packet_that_comes_late_brings_nobody_to_ask_for_a_key_frame() -> None:
    bench = started()
    late = bench.lose(33, DELTA)
    for ms in range(66, 660, 33):
        bench.send(ms, DELTA)
        bench.receiver.due(bench.now_ns)
    bench.receiver.rtp(late._replace(arrival_ns=660 * MS), 660 * MS)
    for ms in range(660, 2000, 33):
        bench.send(ms, DELTA)
        bench.receiver.due(bench.now_ns)
    assert bench.wishes.key_frames == []
    assert bench.times_ms == list(range(0, 2000, 33))


def test_no_key_frame_is_asked_for_when_the_first_frame_is_one() -> None:
    bench = started()
    for index in range(1, 100):
        bench.send(index * 33, DELTA)
        bench.receiver.tick(bench.now_ns)
    assert bench.wishes.key_frames == []


def test_a_key_frame_is_asked_for_when_the_first_frame_is_none_but_not_too_often() -> None:
    bench = started(first=DELTA)
    for index in range(1, 31):
        bench.send(index * 33, DELTA)
    assert bench.wishes.key_frames == [1, 1]
    bench.send(1000, KEY)
    bench.settle()
    assert bench.times_ms == [1000]


def test_malformed_payloads_cost_their_frame_only() -> None:
    bench = started()
    bench.send(33, b"\x00no start")
    bench.send(66, KEY)
    assert bench.times_ms == [0, 66]
    assert bench.receiver.stats.dropped == 1


def test_blank_pictures_are_dropped_quietly() -> None:
    bench = started()
    bench.send(33, BLANK)
    bench.send(66, DELTA)
    bench.receiver.tick(2 * S)
    assert len(bench.frames) == 1
    assert bench.wishes.key_frames == []
    bench.send(3000, KEY)
    assert bench.times_ms == [0, 3000]


def test_a_publishers_own_small_pictures_are_no_blank_ones() -> None:
    bench = started()
    bench.send(33, bytes.fromhex("103033009d012a1000100001c7"))
    bench.send(66, DELTA)
    assert [(frame.width, frame.height) for frame in bench.frames[1:]] == [(16, 16), (0, 0)]
    assert bench.receiver.stats.blank == 0


def test_parameter_sets_alone_join_the_next_unit() -> None:
    sps = bytes.fromhex("6742c01eda0280bfe584000003000400000300f03c58ba80")
    bench = Bench(108)
    bench.send(0, bytes((24,)) + len(sps).to_bytes(2) + sps + b"\0\2\x68p")
    bench.send(1, b"\x65idr")
    bench.settle()
    (frame,) = bench.frames
    start = b"\0\0\0\1"
    assert frame.data == start + sps + start + b"\x68p" + start + b"\x65idr"
    assert (frame.is_key, frame.width, frame.height) == (True, 640, 360)


def test_parameter_sets_may_come_each_by_itself() -> None:
    sps = bytes.fromhex("6742c01eda0280bfe584000003000400000300f03c58ba80")
    bench = Bench(108)
    for payload in (sps, b"\x68p", b"\x65idr"):
        bench.send(0, payload)
    bench.settle()
    (frame,) = bench.frames
    start = b"\0\0\0\1"
    assert frame.data == start + sps + start + b"\x68p" + start + b"\x65idr"
    assert (frame.is_key, frame.width, frame.height) == (True, 640, 360)


def test_parameter_sets_that_never_end_are_not_kept() -> None:
    bench = Bench(108)
    for _ in range(40):
        bench.send(0, b"\x68" + bytes(1000))
    bench.send(1, b"\x65idr")
    bench.settle()
    (frame,) = bench.frames
    assert len(frame.data) < 20_000


def test_another_codec_on_the_same_ssrc() -> None:
    bench = started()
    bench.send(33, b"\x65idr", payload_type=108)
    assert bench.wishes.codecs == [VideoCodec.VP8, VideoCodec.H264]
    assert [each.codec for each in bench.frames] == [VideoCodec.VP8, VideoCodec.H264]


def test_another_codec_while_frames_are_held_and_packets_missing() -> None:
    bench = Bench()
    bench.send(0, KEY)
    lost = bench.lose(33, DELTA)
    bench.send(66, b"\x65idr", payload_type=108)
    assert bench.wishes.codecs == [VideoCodec.VP8]
    repeated = lost._replace(
        ssrc=2, payload_type=97, payload=(lost.sequence & 0xFFFF).to_bytes(2) + lost.payload
    )
    bench.receiver.rtx(repeated, 80 * MS)
    bench.settle()
    assert [each.codec for each in bench.frames] == [VideoCodec.VP8, VideoCodec.VP8, VideoCodec.H264]
    assert bench.times_ms == [0, 33, 66]


def test_no_key_frame_is_asked_for_while_the_first_one_is_on_its_way() -> None:
    bench = started()
    bench.receiver.attach(9, 10, TYPES)
    bench.send(1000, KEY, marker=False)
    bench.receiver.tick(bench.now_ns + S)
    assert bench.wishes.key_frames == []


def test_a_request_that_is_not_answered_is_repeated() -> None:
    bench = started(first=DELTA)
    bench.receiver.tick(S)
    bench.receiver.tick(2 * S)
    assert bench.wishes.key_frames == [1, 1, 1]


def test_a_key_frame_on_a_path_with_a_long_queue_is_asked_for_less_often() -> None:
    """What is sent again comes after 400 ms: so may a key frame."""
    bench = started()
    late = bench.lose(33, DELTA)
    for ms in range(66, 700, 33):
        bench.send(ms, DELTA)
        bench.receiver.due(bench.now_ns)
        if ms == 594:
            bench.receiver.rtp(late._replace(arrival_ns=bench.now_ns), bench.now_ns)
    bench.lose(700, DELTA)
    bench.send(733, DELTA)
    give_up(bench)
    before = len(bench.wishes.key_frames)
    for ms in range(6000, 9000, 100):
        bench.receiver.tick(ms * MS)
    assert before and len(bench.wishes.key_frames) - before <= 2


def test_unknown_payload_types_are_left_out() -> None:
    bench = started()
    bench.send(33, b"noise", payload_type=77)
    bench.send(66, DELTA)
    assert len(bench.frames) == 1
    give_up(bench)
    assert bench.receiver.stats.gaps == 1


def red_payload(own: bytes, *older: tuple[int, bytes]) -> bytes:
    head = b"".join(bytes((0x80 | 111,)) + (off << 10 | len(data)).to_bytes(3) for off, data in older)
    return head + b"\x6f" + b"".join(data for _, data in older) + own


def test_redundant_audio_repeats_nothing_and_fills_what_was_lost() -> None:
    bench = started(63, red_payload(b"0", (960, b"before")))
    bench.send(20, red_payload(b"1", (960, b"0")))
    bench.lose(40, red_payload(b"2"))
    bench.lose(60, red_payload(b"3"))
    bench.send(80, red_payload(b"4", (1920, b"2"), (960, b"3")))
    # At once, and nothing is asked for.
    assert [each.data for each in bench.frames] == [b"0", b"1", b"2", b"3", b"4"]
    assert bench.wishes.due_ns == []
    assert bench.times_ms == [0, 20, 40, 60, 80]
    assert {each.codec for each in bench.frames} == {AudioCodec.OPUS}
    assert not any(each.after_gap for each in bench.frames)


def test_more_was_lost_than_is_repeated() -> None:
    bench = started(63, red_payload(b"0"))
    bench.lose(20, red_payload(b"1"))
    bench.lose(40, red_payload(b"2"))
    bench.send(60, red_payload(b"3", (960, b"2")))
    assert bench.times_ms == [0]
    give_up(bench)
    assert bench.times_ms == [0, 40, 60]


def test_a_packet_that_comes_late_to_the_server_is_waited_for() -> None:
    """The server makes redundant packets of plain ones, of what it has by then."""
    bench = started(63, red_payload(b"0"))
    late = bench.lose(20, red_payload(b"1", (960, b"0")))
    bench.send(40, red_payload(b"2", (1920, b"0")))
    assert bench.times_ms == [0]
    bench.receiver.rtp(late, 45 * MS)
    assert bench.times_ms == [0, 20, 40]


def test_an_empty_or_malformed_repetition_fills_nothing() -> None:
    for payload in (red_payload(b"2", (960, b"")), b"\xef\0\x0f\xff"):
        bench = started(63, red_payload(b"0"))
        bench.lose(20, red_payload(b"1"))
        bench.send(40, payload)
        assert bench.wishes.due_ns


def test_redundant_audio_whose_rtp_time_begins_anew() -> None:
    bench = started(63, red_payload(b"0"))
    bench.send(20_000, red_payload(b"1", (960, b"0")))
    for at_ms in (20, 40):
        packet = bench.packet(at_ms, red_payload(b"%d" % at_ms, (960, b"%d" % (at_ms - 20))))
        now_ns = (20_000 + at_ms) * MS
        bench.receiver.rtp(packet._replace(arrival_ns=now_ns), now_ns)
    give_up(bench)
    assert [each.data for each in bench.frames][-3:] == [b"1", b"20", b"40"]
    assert bench.times_ms[-3:] == [20_000, 20_020, 20_040]


def test_what_came_by_itself_is_not_taken_from_a_repetition() -> None:
    """Packets too large to be repeated are sent plain."""
    bench = started(63, red_payload(b"0"))
    bench.send(20, b"1", payload_type=111)
    bench.send(40, red_payload(b"2", (960, b"1")))
    assert [each.data for each in bench.frames] == [b"0", b"1", b"2"]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.5),
    late=st.floats(0, 0.3),
    repeats=st.integers(0, 3),
    pause=st.floats(0, 0.3),
)
def test_redundant_audio_is_whole_but_for_what_nobody_has(
    seed: int, loss: float, late: float, repeats: int, pause: float
) -> None:
    """Losses, packets out of order, pauses. All that came in time is there, in order and once."""
    chance = random.Random(seed)
    bench = Bench(63)
    at_ms, sent = 0, [0]
    bench.send(0, red_payload((0).to_bytes(2)))
    arrivals: list[tuple[float, int, RtpPacket]] = []
    for number in range(1, 200):
        at_ms += 20 if chance.random() >= pause else chance.choice((60, 100, 400))
        older = [
            ((at_ms - sent[each]) * 48, each.to_bytes(2))
            for each in range(max(0, number - repeats), number)
            if (at_ms - sent[each]) * 48 < 1 << 14
        ]
        sent.append(at_ms)
        packet = bench.lose(at_ms, red_payload(number.to_bytes(2), *older))
        if chance.random() >= loss:
            arrivals.append(
                (at_ms + (chance.uniform(0, 200) if chance.random() < late else 0), number, packet)
            )
    for arrival_ms, _, packet in sorted(arrivals):
        while (due_ns := bench.receiver.next_due_ns()) is not None and due_ns < arrival_ms * MS:
            bench.receiver.due(due_ns)
        now_ns = int(arrival_ms * MS)
        bench.receiver.rtp(packet._replace(arrival_ns=now_ns), now_ns)
    give_up(bench)
    got = [int.from_bytes(each.data) for each in bench.frames]
    assert got == sorted(set(got))
    assert set(got) >= {0, *(number for _, number, _ in arrivals)}


@pytest.mark.parametrize(("payload_type", "payload", "after_ms"), [(111, b"opus", 700), (96, KEY, 1500)])
def test_how_long_a_lost_packet_holds_up_the_others(payload_type: int, payload: bytes, after_ms: int) -> None:
    """Sound goes on alone; pictures without the one before them are of no use anyway."""
    bench = started(payload_type, payload)
    bench.lose(20, payload)
    for index in range(2, 150):
        at_ms = index * 20
        while (due_ns := bench.receiver.next_due_ns()) is not None and due_ns <= at_ms * MS:
            bench.receiver.due(due_ns)
        assert len(bench.frames) == 1 or at_ms >= 40 + after_ms
        bench.send(at_ms, payload)
    assert bench.receiver.stats.gaps == 1
    assert bench.times_ms[-1] == 2980


def test_silence_between_packets_is_no_gap() -> None:
    bench = started(111, b"opus")
    bench.send(20, b"opus")
    bench.send(420, b"opus")
    assert bench.times_ms == [0, 20, 420]
    assert not any(each.after_gap for each in bench.frames)


def test_a_new_ssrc_goes_on_in_the_same_track() -> None:
    bench = started()
    bench.send(33, DELTA)
    bench.receiver.attach(9, 10, TYPES)
    bench.sequence = 100
    bench.send(5000, KEY)
    bench.settle()
    assert bench.times_ms == [0, 33, 5000]
    assert bench.frames[-1].after_gap


def test_a_track_under_a_new_sid_goes_on() -> None:
    bench = Bench(111)
    bench.send(0, b"opus")
    bench.receiver.rename("TR_2")
    bench.receiver.attach(9, None, TYPES)
    bench.sequence = 7
    bench.send(3000, b"opus")
    bench.settle()
    assert [each.track_sid for each in bench.frames] == ["TR_1", "TR_2"]
    assert bench.times_ms == [0, 3000]


def test_what_is_held_is_handed_out_at_the_end_but_no_half_frame() -> None:
    bench = Bench()
    bench.send(0, KEY)
    bench.send(33, DELTA)
    bench.send(66, DELTA, marker=False)
    bench.receiver.flush()
    assert bench.times_ms == [0, 33]
    bench.receiver.flush()
    assert len(bench.frames) == 2


def test_receiver_reports() -> None:
    bench = Bench(111)
    assert bench.receiver.report_block(0) is None
    bench.send(0, b"opus")
    bench.report(0)
    bench.send(20, b"opus")
    bench.lose(40, b"opus")
    bench.send(60, b"opus")
    block = bench.receiver.report_block(bench.now_ns + 500 * MS)
    assert block is not None
    assert (block.ssrc, block.packets_lost, block.fraction_lost) == (1, 1, 64)
    assert block.highest_sequence == 65_534
    assert (block.last_report, block.delay) == (7, int(0.56 * 65536))
    bench.send(80, b"opus")
    again = bench.receiver.report_block(bench.now_ns)
    assert again is not None
    assert (again.packets_lost, again.fraction_lost) == (1, 0)


def test_jitter_of_even_packets_is_none() -> None:
    bench = Bench(111)
    for index in range(50):
        bench.send(index * 20, b"opus")
    block = bench.receiver.report_block(bench.now_ns)
    assert block is not None
    assert block.jitter == 0


OPUS_20_MS = b"\xf8\xff\xfe"
OPUS_120_MS = b"\xfb\x06" + b"\xff\xfe"


@pytest.mark.parametrize(
    ("payload_type", "payload", "per_s", "reason"),
    [
        pytest.param(111, OPUS_20_MS, 7600, Reason.SOUND, id="a flood of sound"),
        pytest.param(111, OPUS_120_MS, 100, Reason.SOUND, id="long packets of sound"),
        pytest.param(111, b"\xff", 7600, Reason.SOUND, id="packets that are no sound"),
        pytest.param(96, KEY, 1000, Reason.PICTURES, id="1,000 pictures a second"),
    ],
)
def test_a_track_that_sends_more_than_can_be_played(
    payload_type: int, payload: bytes, per_s: int, reason: Reason
) -> None:
    bench = Bench(payload_type)
    sent = 0
    while not bench.wishes.troubles:
        bench.now_ns = sent * S // per_s
        bench.receiver.rtp(bench.packet(bench.now_ns // MS, payload), bench.now_ns)
        sent += 1
    assert bench.wishes.troubles == [reason]
    assert bench.now_ns < 10 * S


def test_a_picture_without_end_is_counted_by_its_packets() -> None:
    bench = started()
    while not bench.wishes.troubles and bench.sequence < 200_000:
        bench.now_ns += 50_000
        bench.receiver.rtp(bench.packet(5, b"\x00more", marker=False), bench.now_ns)
    assert bench.wishes.troubles == [Reason.PACKETS]


def test_what_is_missing_is_counted() -> None:
    """Each packet is far ahead of the one before: all between are asked for again and again."""
    bench = started()
    for index in range(40):
        bench.sequence += 2000
        bench.send(33 * index, DELTA)
    assert bench.wishes.troubles[0] is Reason.PACKETS
    assert len(bench.receiver.due(bench.now_ns + 20 * MS)) <= 3000


@pytest.mark.parametrize("stall_s", [1, 10, 25])
def test_sound_that_a_network_held_up_is_no_flood(stall_s: int) -> None:
    bench = started(111, OPUS_20_MS)
    for index in range(1, 3000):
        bench.now_ns = max(index * 20 * MS, stall_s * S)
        bench.receiver.rtp(bench.packet(index * 20, OPUS_20_MS), bench.now_ns)
    assert bench.wishes.troubles == []
    assert len(bench.frames) == 3000


def test_a_track_that_was_left_out_goes_on_where_its_sender_is() -> None:
    bench = started()
    bench.send(33, DELTA)
    bench.receiver.leave_out()
    for index in range(100):
        bench.send(66 + 33 * index, DELTA)
    assert len(bench.frames) == 2
    bench.receiver.take()
    bench.sequence += 700
    for index in range(10):
        bench.send(5000 + 33 * index, KEY if index == 3 else DELTA)
    bench.settle()
    assert bench.times_ms == [0, 33, *(5000 + 33 * index for index in range(3, 10))]
    assert bench.frames[2].after_gap
    assert bench.wishes.troubles == []


def test_a_track_that_is_taken_again_may_not_begin_with_another_flood() -> None:
    bench = Bench(111)
    bench.receiver.leave_out()
    bench.receiver.take()
    for index in range(int(SOUND.media.burst * PROBATION) * 50 + 20):
        bench.receiver.rtp(bench.packet(index * 20, OPUS_20_MS), 0)
    assert bench.wishes.troubles[0] is Reason.SOUND


def test_frames_whose_place_nothing_tells_are_not_kept() -> None:
    """Each comes behind a packet that holds nothing, so that none has an arrival of its own."""
    bench = Bench()
    bench.send(0, b"\x10")
    for index in range(1, 3000):
        late = bench.packet(index, KEY)
        bench.send(index, b"")
        bench.receiver.rtp(late, bench.now_ns)
    assert len(bench.receiver._sync._held) <= 600


# --- encrypted end to end

PASSPHRASE = b"known to all"


class Encrypted(Bench):
    """With a sender who has the key."""

    def __init__(self, payload_type: int = 96) -> None:
        self.room = RoomCipher([RoomKey(0, PASSPHRASE)], AtOnce())
        self.room.server_mark = b"the server's mark"
        self.key = derived(PASSPHRASE)
        super().__init__(payload_type, self.room.of("alice"))

    def frame(self, data: bytes) -> bytes:
        """A payload of VP8 or Opus."""
        if self.type.number != 96:
            return sealed(data, 1, self.key)
        return data[:1] + sealed(data[1:], 3 if data[1] & 1 else 10, self.key)


def test_pictures_are_decrypted_before_they_are_told_of() -> None:
    bench = Encrypted()
    bench.send(0, bench.frame(KEY))
    bench.settle()
    bench.send(33, bench.frame(DELTA))
    assert [each.data for each in bench.frames] == [KEY[1:], DELTA[1:]]
    assert bench.wishes.first_key_frames == [(VideoCodec.VP8, KEY[1:])]
    assert (bench.frames[0].width, bench.frames[0].is_key, bench.frames[1].is_key) == (640, True, False)


def test_redundant_sound_is_decrypted_block_by_block() -> None:
    """As a server puts packets together that a publisher encrypted one by one."""
    bench = Encrypted(63)
    first, lost, last = (bench.frame(b"\x78" + each) for each in (b"0", b"1", b"2"))
    bench.send(0, red_payload(first))
    bench.settle()
    bench.lose(20, red_payload(lost, (960, first)))
    bench.send(40, red_payload(last, (960, lost)))
    assert [each.data for each in bench.frames] == [b"\x780", b"\x781", b"\x782"]
    assert bench.times_ms == [0, 20, 40]


def test_what_the_server_puts_in_is_left_out() -> None:
    bench = Encrypted(111)
    bench.send(0, bench.frame(b"\x780"))
    bench.settle()
    bench.send(20, b"\xf8\xff\xfe" + bench.room.server_mark)
    bench.send(40, bench.frame(b"\x782"))
    assert bench.times_ms == [0, 40] and bench.receiver.stats.dropped == 0

    bench = Encrypted()
    bench.send(0, bench.frame(KEY))
    bench.settle()
    bench.send(33, BLANK + bench.room.server_mark)
    bench.send(66, bench.frame(DELTA))
    bench.send(99, bench.frame(KEY))
    assert bench.times_ms == [0, 99] and bench.receiver.stats.blank == 1
    assert bench.wishes.troubles == []


@pytest.mark.parametrize("payload_type", [96, 111])
def test_frames_of_another_key_are_trouble(payload_type: int) -> None:
    bench = Encrypted(payload_type)
    bench.key = bytes(16)
    data = KEY if payload_type == 96 else b"\x78opus"
    sent = 0
    while not bench.wishes.troubles:
        bench.send(20 * sent, bench.frame(data))
        sent += 1
    assert bench.wishes.troubles == [Reason.WRONG_KEY]
    assert MAX_FAILURES <= sent <= MAX_FAILURES + RATCHET_WINDOW
    assert bench.frames == [] and bench.receiver.stats.dropped == sent
    assert bool(bench.wishes.key_frames) == (payload_type == 96)


class Asked:
    """A key service that has not answered yet; later its answers are of no use."""

    def __init__(self) -> None:
        self.is_awaited = True

    def want(self, identity: str, index: int | None = None) -> bool:
        return self.is_awaited


class Awaiting(Encrypted):
    """With a sender who has gone on to a key that a service has yet to give."""

    def __init__(self, payload_type: int) -> None:
        super().__init__(payload_type)
        self.service = Asked()
        self.room = RoomCipher([RoomKey(3, b"before")], AtOnce(), self.service)
        self.receiver.rename("TR_1", self.room.of("alice"))

    def answer(self) -> None:
        self.room.take([RoomKey(0, PASSPHRASE)])


@pytest.mark.parametrize("payload_type", [96, 111])
def test_nothing_is_lost_while_a_key_is_awaited(payload_type: int) -> None:
    bench = Awaiting(payload_type)
    sent = [KEY, *[DELTA] * 9] if payload_type == 96 else [b"\x78" + bytes([n]) for n in range(10)]
    for number, data in enumerate(sent):
        if number == 8:
            bench.settle()
            assert bench.frames == []
            bench.answer()
        bench.send(20 * number, bench.frame(data))
    bench.settle()
    skipped = 1 if payload_type == 96 else 0
    assert [each.data for each in bench.frames] == [each[skipped:] for each in sent]
    assert bench.times_ms == [20 * number for number in range(10)], "each at its own time"
    assert (bench.receiver.stats.dropped, bench.wishes.troubles) == (0, [])


@pytest.mark.parametrize("payload_type", [96, 111])
def test_a_key_that_comes_after_the_last_packet(payload_type: int) -> None:
    bench = Awaiting(payload_type)
    bench.send(0, bench.frame(KEY if payload_type == 96 else b"\x78opus"))
    bench.answer()
    bench.receiver.tick(bench.now_ns)
    bench.settle()
    assert len(bench.frames) == 1


@pytest.mark.parametrize(("payload_type", "most"), [(96, HELD_FOR_NS // (20 * MS) + 1), (111, sound_held)])
def test_who_waits_for_a_key_for_too_long_is_trouble(payload_type: int, most: int) -> None:
    bench = Awaiting(payload_type)
    data = bench.frame(KEY if payload_type == 96 else b"\x78opus")
    for number in range(most + 1):
        bench.send(20 * number, data)
    assert bench.receiver.stats.dropped == 1 and bench.wishes.troubles == []
    bench.service.is_awaited = False
    bench.send(20 * most + 20, data)
    assert bench.receiver.stats.dropped == most + 2
    assert set(bench.wishes.troubles) == {Reason.WRONG_KEY}


def test_a_track_that_comes_back_unencrypted_is_taken_as_it_is() -> None:
    bench = Encrypted(111)
    bench.send(0, bench.frame(b"\x780"))
    bench.settle()
    bench.receiver.rename("TR_2")
    bench.send(20, b"\x781")
    bench.receiver.rename("TR_3", bench.room.of("alice"))
    bench.send(40, b"\x78 not encrypted, and long enough to be")
    bench.send(60, bench.frame(b"\x783"))
    assert [each.data for each in bench.frames] == [b"\x780", b"\x781", b"\x783"]
