"""Frames whose rest the server does not send: it changes the layer or pauses the track in the middle of one,
and numbers its packets without a gap."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.core.codecs import VideoCodec
from openegress.core.units import MS, S
from openegress.room.rtp.depacketise import join_video
from openegress.room.rtp.frame_cipher import MAX_FAILURES
from openegress.room.rtp.packets import RtpPacket
from tests.unit.test_room_depacketise import (
    AV1_SEQUENCE_640,
    HEVC_SPS_640,
    SPS_640,
    VP9_KEY_640,
    av1_payloads,
    h264_aggregate,
    h264_fragments,
    h265_aggregate,
    h265_fragments,
    vp8_payloads,
    vp9_payloads,
)
from tests.unit.test_room_receiver import KEY, TYPES, Bench, Encrypted

SIZE = 40
"""Bytes in a packet."""
STEP_MS = 33
PPS, HEVC_VPS, HEVC_PPS = b"\x68pps", b"\x40\x01vps", b"\x44\x01pps"
VP8_BLANK = bytes.fromhex("10" + "100200" + "9d012a08000800" + "0047088585888584880202000c0d6000feffab5080")
H264_BLANK = h264_aggregate(
    bytes.fromhex("6742c01f0fd91f888884000003000400000300c83c60c920"),
    bytes.fromhex("6887cb83cb20"),
    bytes.fromhex("6588840af2628000a7be"),
)
"""The blank pictures of livekit-server."""


def vp8(is_key: bool, body: bytes) -> list[list[bytes]]:
    """Its first partition has five bytes, and is in the first packet."""
    head = b"\xb0\0\0\x9d\x01\x2a\x80\x02\x68\x01" if is_key else b"\xb1\0\0"
    return [vp8_payloads(head + body, SIZE, b"\x80\x11")]


def h264_one_slice(is_key: bool, body: bytes) -> list[list[bytes]]:
    if is_key:
        return [[h264_aggregate(SPS_640, PPS), *h264_fragments(b"\x65\x88" + body, SIZE)]]
    return [h264_fragments(b"\x41\x9a" + body, SIZE)]


def h264_slices(is_key: bool, body: bytes) -> list[list[bytes]]:
    head, kind = ([SPS_640, PPS], b"\x65") if is_key else ([], b"\x41")
    return [[*head, *(kind + part + body for part in (b"\x88", b"\x0a", b"\x05"))]]


def h265_one_slice(is_key: bool, body: bytes) -> list[list[bytes]]:
    if is_key:
        sets = h265_aggregate(HEVC_VPS, HEVC_SPS_640, HEVC_PPS)
        return [[sets, *h265_fragments(b"\x26\x01\xaf" + body, SIZE)]]
    return [h265_fragments(b"\x02\x01\xd0" + body, SIZE)]


def h265_slices(is_key: bool, body: bytes) -> list[list[bytes]]:
    head, kind = ([HEVC_VPS, HEVC_SPS_640, HEVC_PPS], b"\x26\x01") if is_key else ([], b"\x02\x01")
    return [[*head, *(kind + part + body for part in (b"\xaf", b"\x2a", b"\x25"))]]


def vp9(is_key: bool, body: bytes) -> list[list[bytes]]:
    return [vp9_payloads((VP9_KEY_640 if is_key else b"\x86") + body, SIZE, 0x80, b"\x91\x22")]


def vp9_layers(is_key: bool, body: bytes) -> list[list[bytes]]:
    frames = [VP9_KEY_640 if is_key else b"\x86", b"\x86\x01", b"\x86\x02"]
    return [
        vp9_payloads(frame + body, SIZE, 0xA0, bytes((0x91, 0x22, layer << 1, 0)))
        for layer, frame in enumerate(frames)
    ]


def av1(is_key: bool, body: bytes) -> list[list[bytes]]:
    head = [b"\x08" + AV1_SEQUENCE_640] if is_key else []
    return [av1_payloads([*head, (b"\x30\x10" if is_key else b"\x30\x30") + body], SIZE)]


def av1_tile_groups(is_key: bool, body: bytes) -> list[list[bytes]]:
    head = [b"\x08" + AV1_SEQUENCE_640, b"\x18\x10"] if is_key else [b"\x18\x30"]
    return [av1_payloads([*head, *(b"\x20" + part + body for part in (b"\x80", b"\x90"))], SIZE)]


def av1_layers(is_key: bool, body: bytes) -> list[list[bytes]]:
    head = [b"\x08" + AV1_SEQUENCE_640] if is_key else []
    frames = [b"\x34\x00" + (b"\x10" if is_key else b"\x30"), b"\x34\x08\x30", b"\x34\x10\x30"]
    return [
        av1_payloads([*([] if layer else head), frame + body], SIZE) for layer, frame in enumerate(frames)
    ]


@dataclass(frozen=True, slots=True)
class Format:
    payload_type: int
    codec: VideoCodec
    layers: Callable[[bool, bytes], list[list[bytes]]]
    """The payloads of a frame, layer by layer."""

    def payloads(self, is_key: bool, number: int) -> list[bytes]:
        return [each for layer in self.layers(is_key, self.body(number)) for each in layer]

    def body(self, number: int) -> bytes:
        return number.to_bytes(2) + b"Z" * 90

    def ends(self, is_key: bool) -> set[int]:
        """The numbers of packets after which a decoder can use what it has."""
        return set(accumulate(len(layer) for layer in self.layers(is_key, self.body(0))))


FORMATS = {
    "vp8": Format(96, VideoCodec.VP8, vp8),
    "h264": Format(108, VideoCodec.H264, h264_one_slice),
    "h264 slices": Format(108, VideoCodec.H264, h264_slices),
    "h265": Format(116, VideoCodec.H265, h265_one_slice),
    "h265 slices": Format(116, VideoCodec.H265, h265_slices),
    "vp9": Format(98, VideoCodec.VP9, vp9),
    "vp9 layers": Format(98, VideoCodec.VP9, vp9_layers),
    "av1": Format(45, VideoCodec.AV1, av1),
    "av1 tile groups": Format(45, VideoCodec.AV1, av1_tile_groups),
    "av1 layers": Format(45, VideoCodec.AV1, av1_layers),
}
each_format = pytest.mark.parametrize("name", FORMATS)


class Stream:
    """What a server sends of a track, and what is recorded of it."""

    def __init__(self, name: str) -> None:
        self.format = FORMATS[name]
        self.bench = Bench(self.format.payload_type)
        self.ms = 0
        self.number = 0

    def payloads(self, is_key: bool) -> list[bytes]:
        """Those of the next frame."""
        self.number += 1
        return self.format.payloads(is_key, self.number)

    def send(self, payloads: Iterable[bytes], *, is_marked: bool = True, step_ms: int = STEP_MS) -> None:
        self.ms += step_ms
        sent = list(payloads)
        for index, payload in enumerate(sent, 1):
            self.bench.send(self.ms, payload, marker=is_marked and index == len(sent))

    def frame(self, is_key: bool, *, step_ms: int = STEP_MS) -> bytes:
        """Sends a whole frame. Returns it."""
        payloads = self.payloads(is_key)
        self.send(payloads, step_ms=step_ms)
        return self.whole(payloads)

    def whole(self, payloads: list[bytes]) -> bytes:
        return join_video(self.format.codec, payloads).data

    @property
    def recorded(self) -> list[bytes]:
        return [frame.data for frame in self.bench.frames]

    @property
    def dropped(self) -> int:
        return self.bench.receiver.stats.dropped

    @property
    def key_frames_wanted(self) -> int:
        return len(self.bench.wishes.key_frames)


def started(name: str) -> tuple[Stream, list[bytes]]:
    """A stream after two frames, and those."""
    stream = Stream(name)
    frames = [stream.frame(True)]
    stream.bench.settle()
    return stream, [*frames, stream.frame(False)]


@pytest.mark.parametrize("following", [True, False], ids=["then a key frame", "then another"])
@pytest.mark.parametrize("is_key", [True, False], ids=["a key frame", "another frame"])
@each_format
def test_a_frame_that_breaks_off_is_left_out(name: str, is_key: bool, following: bool) -> None:
    broken_off = 0
    for count in range(1, len(FORMATS[name].payloads(is_key, 0))):
        stream, expected = started(name)
        first = stream.payloads(is_key)[:count]
        stream.send(first, is_marked=False)
        is_usable = count in stream.format.ends(is_key)
        if is_usable:
            expected.append(stream.whole(first))
        after = stream.frame(following, step_ms=1)
        if is_usable or following:
            expected.append(after)
        assert stream.recorded == expected, f"after {count} packets"
        assert stream.key_frames_wanted == (not is_usable)
        expected += [stream.frame(True), stream.frame(False)]
        assert stream.recorded == expected
        assert stream.dropped == (0 if is_usable else 1 if following else 2)
        broken_off += not is_usable
    assert broken_off


@each_format
def test_a_frame_that_breaks_off_where_an_ssrc_ends(name: str) -> None:
    stream, expected = started(name)
    stream.send(stream.payloads(False)[:-1], is_marked=False)
    stream.bench.receiver.attach(3, 4, TYPES)
    expected.append(stream.frame(True))
    stream.bench.settle()
    assert stream.recorded == expected


@each_format
def test_the_first_frame_after_a_pause_is_recorded(name: str) -> None:
    """The server closes the frame with padding."""
    stream, expected = started(name)
    stream.send([*stream.payloads(False)[:1], b"", b""], is_marked=False)
    expected.append(stream.frame(True, step_ms=5000))
    assert stream.recorded == expected


@each_format
def test_padding_in_the_middle_of_a_frame(name: str) -> None:
    stream, expected = started(name)
    payloads = stream.payloads(False)
    stream.ms += STEP_MS
    for index, payload in enumerate(payloads, 1):
        stream.bench.send(stream.ms, b"", marker=False)
        stream.bench.send(stream.ms, payload, marker=index == len(payloads))
    expected += [stream.whole(payloads), stream.frame(False)]
    assert stream.recorded == expected
    assert (stream.dropped, stream.key_frames_wanted) == (0, 0)


def last_packet_late(stream: Stream) -> tuple[list[bytes], RtpPacket]:
    """Sends a frame without its last packet, which is returned too."""
    *payloads, last = stream.payloads(False)
    stream.send(payloads, is_marked=False)
    return [*payloads, last], stream.bench.lose(stream.ms, last)


def retransmission(packet: RtpPacket) -> RtpPacket:
    number = TYPES[packet.payload_type].rtx_number
    assert number is not None
    original = packet.sequence.to_bytes(2) + packet.payload
    return packet._replace(ssrc=2, payload_type=number, sequence=7, payload=original)


@each_format
def test_the_last_packet_comes_after_the_next_frame(name: str) -> None:
    stream, expected = started(name)
    payloads, last = last_packet_late(stream)
    after = stream.frame(False)
    assert stream.recorded == expected
    stream.bench.receiver.rtx(retransmission(last), stream.bench.now_ns + 50 * MS)
    assert stream.recorded == [*expected, stream.whole(payloads), after]
    assert (stream.dropped, stream.key_frames_wanted) == (0, 0)


@each_format
def test_the_last_packet_comes_after_it_was_given_up(name: str) -> None:
    stream, expected = started(name)
    _, last = last_packet_late(stream)
    after = stream.frame(True)
    while stream.bench.receiver.next_due_ns() is not None:
        stream.bench.now_ns += 100 * MS
        stream.bench.receiver.due(stream.bench.now_ns)
    assert stream.recorded == [*expected, after]
    assert stream.key_frames_wanted
    stream.bench.receiver.rtx(retransmission(last), stream.bench.now_ns)
    stream.ms = stream.bench.now_ns // MS
    expected += [after, stream.frame(False)]
    assert stream.recorded == expected
    assert stream.dropped == 1


@each_format
def test_a_sender_that_marks_no_frame_is_recorded(name: str) -> None:
    stream = Stream(name)
    sent = [stream.payloads(index % 10 == 0) for index in range(30)]
    for payloads in sent:
        stream.send(payloads, is_marked=False)
    stream.bench.receiver.due(stream.bench.now_ns + S)
    assert stream.recorded == [stream.whole(each) for each in sent[:-1]], "the last one has not ended yet"


def test_a_vp8_frame_that_ends_before_its_first_partition_does() -> None:
    """Nothing has been marked yet."""
    stream = Stream("vp8")
    stream.send([b"\x10\x30\x33\0\x9d\x01\x2a\x80\x02\x68\x01part"], is_marked=False)
    key = stream.frame(True, step_ms=1)
    stream.bench.settle()
    assert stream.recorded == [key]
    assert stream.dropped == 1


@pytest.mark.parametrize(
    ("name", "blank"),
    [("vp8", VP8_BLANK), ("h264", H264_BLANK), ("h264 slices", H264_BLANK)],
    ids=["vp8", "h264", "h264 slices"],
)
@pytest.mark.parametrize("is_key", [True, False], ids=["a key frame", "another frame"])
def test_a_blank_picture_closes_a_frame_that_broke_off(name: str, blank: bytes, is_key: bool) -> None:
    """livekit-server sends it with the RTP time of that frame, and with a marker, when the track ends."""
    stream, expected = started(name)
    payloads = stream.payloads(is_key)
    for count in range(1, len(payloads)):
        stream.send([*payloads[:count], blank])
        stream.send([blank])
        assert stream.recorded == expected, f"after {count} packets"
        assert stream.bench.receiver.stats.blank


def test_an_encrypted_frame_that_breaks_off_is_no_sign_of_a_wrong_key() -> None:
    bench = Encrypted()
    bench.send(0, bench.frame(KEY))
    bench.settle()
    for index in range(1, MAX_FAILURES + 2):
        bench.send(index * STEP_MS, bench.frame(KEY)[:-20], marker=False)
    assert bench.wishes.troubles == []
    assert bench.receiver.stats.dropped == MAX_FAILURES
    bench.send(bench.now_ns // MS + STEP_MS, bench.frame(KEY))
    assert [frame.data for frame in bench.frames] == [KEY[1:], KEY[1:]]


@dataclass(frozen=True, slots=True)
class Step:
    is_key: bool
    broken_after: int | None
    """The number of packets; None: the frame is whole."""


@settings(max_examples=200)
@given(
    st.sampled_from(list(FORMATS)),
    st.lists(st.builds(Step, st.booleans(), st.none() | st.integers(1, 20)), max_size=30),
)
def test_what_is_recorded_can_be_decoded(name: str, steps: list[Step]) -> None:
    stream, expected = started(name)
    needs_key = False
    for step in steps:
        payloads = stream.payloads(step.is_key)
        count = len(payloads) if step.broken_after is None else min(step.broken_after, len(payloads))
        sent = payloads[:count]
        stream.send(sent, is_marked=count == len(payloads))
        is_usable = count in stream.format.ends(step.is_key)
        needs_key = not is_usable or (needs_key and not step.is_key)
        if not needs_key:
            expected.append(stream.whole(sent))
    expected.append(stream.frame(True))
    assert stream.recorded == expected
