"""Frames are cut into payloads here as the RTP formats say, and must come back whole."""

import contextlib
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openegress.core.codecs import VideoCodec
from openegress.core.varint import varint
from openegress.room.rtp.depacketise import (
    MalformedPayload,
    UnitKind,
    av1,
    h264,
    h265,
    has_end,
    join_video,
    opus,
    pcm,
    red,
)
from openegress.room.rtp.depacketise.av1 import leb128

START = b"\0\0\0\1"
SPS_640 = bytes.fromhex("6742c01eda0280bfe584000003000400000300f03c58ba80")
HEVC_SPS_640 = bytes.fromhex(
    "42010101600000030090000003000003003fa00502016965959a4932b9a020000003002000000303c1"
)
AV1_SEQUENCE_640 = bytes.fromhex("0000000cc4ff6712be4010")
VP9_KEY_640 = bytes.fromhex("824983420027f016760038241c184a10002860fa2fd00000")
VP8_KEY_640 = bytes.fromhex("3033009d012a8002680101c708858588")


# --- payloaders


def h264_fragments(nal: bytes, size: int) -> list[bytes]:
    body, kind = nal[1:], nal[0]
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return [
        bytes((kind & 0xE0 | 28, (i == 0) << 7 | (i == len(parts) - 1) << 6 | kind & 0x1F)) + part
        for i, part in enumerate(parts)
    ]


def h264_aggregate(*nals: bytes) -> bytes:
    return bytes((24,)) + b"".join(len(nal).to_bytes(2) + nal for nal in nals)


def h265_fragments(nal: bytes, size: int) -> list[bytes]:
    body, kind = nal[2:], nal[0] >> 1 & 0x3F
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return [
        bytes((nal[0] & 0x81 | 49 << 1, nal[1], (i == 0) << 7 | (i == len(parts) - 1) << 6 | kind)) + part
        for i, part in enumerate(parts)
    ]


def h265_aggregate(*nals: bytes) -> bytes:
    return bytes((48 << 1, 1)) + b"".join(len(nal).to_bytes(2) + nal for nal in nals)


def vp8_payloads(frame: bytes, size: int, descriptor: bytes = b"") -> list[bytes]:
    """`descriptor`: the extension after the first byte."""
    parts = [frame[i : i + size] for i in range(0, len(frame), size)]
    return [
        bytes((bool(descriptor) << 7 | (i == 0) << 4,)) + descriptor + part for i, part in enumerate(parts)
    ]


def vp9_payloads(frame: bytes, size: int, flags: int = 0, rest: bytes = b"") -> list[bytes]:
    parts = [frame[i : i + size] for i in range(0, len(frame), size)]
    return [
        bytes((flags | (i == 0) << 3 | (i == len(parts) - 1) << 2,)) + rest + part
        for i, part in enumerate(parts)
    ]


def av1_payloads(obus: Sequence[bytes], size: int) -> list[bytes]:
    """OBUs without sizes, each cut anywhere; one element a packet, its length left out or not by turns."""
    packets = []
    for obu in obus:
        parts = [obu[i : i + size] for i in range(0, len(obu), size)]
        for index, part in enumerate(parts):
            with_length = index % 2 == 1
            head = (index > 0) << 7 | (index < len(parts) - 1) << 6 | (0 if with_length else 1 << 4)
            packets.append(bytes((head,)) + (varint(len(part)) if with_length else b"") + part)
    return packets


def body(draw: st.DataObject, least: int = 1) -> bytes:
    return draw.draw(st.binary(min_size=least, max_size=300))


SIZES = st.integers(1, 200)


# --- whole frames


@given(st.data(), SIZES)
def test_h264_fragments_aggregates_and_single_units(data: st.DataObject, size: int) -> None:
    sei, pps = b"\x06" + body(data), b"\x68" + body(data)
    idr, slice_2 = b"\x65" + body(data), b"\x65" + body(data)
    payloads = [h264_aggregate(SPS_640, pps, sei), *h264_fragments(idr, size), slice_2]
    unit = join_video(VideoCodec.H264, payloads)
    assert unit.data == START + START.join([SPS_640, pps, sei, idr, slice_2])
    assert (unit.kind, unit.width, unit.height) == (UnitKind.KEY, 640, 360)


def test_h264_units_that_are_no_key_frame() -> None:
    delta = join_video(VideoCodec.H264, [b"\x41abc"])
    assert (delta.data, delta.is_key, delta.width) == (START + b"\x41abc", False, 0)
    parameters = join_video(VideoCodec.H264, [h264_aggregate(SPS_640, b"\x68x")])
    assert (parameters.kind, parameters.width) == (UnitKind.PARAMETERS, 640)
    # Parameter sets in front of a picture that needs others before it say nothing of what is shown.
    both = join_video(VideoCodec.H264, [h264_aggregate(SPS_640, b"\x68x"), b"\x41abc"])
    assert (both.kind, both.width, both.height) == (UnitKind.DELTA, 0, 0)


@given(st.data(), SIZES)
def test_h265(data: st.DataObject, size: int) -> None:
    vps, pps = b"\x40\x01" + body(data), b"\x44\x01" + body(data)
    idr, tail = b"\x26\x01" + body(data), b"\x02\x01" + body(data)
    payloads = [h265_aggregate(vps, HEVC_SPS_640, pps), *h265_fragments(idr, size), tail]
    unit = join_video(VideoCodec.H265, payloads)
    assert unit.data == START + START.join([vps, HEVC_SPS_640, pps, idr, tail])
    assert (unit.is_key, unit.width, unit.height) == (True, 640, 360)
    assert not join_video(VideoCodec.H265, [tail]).is_key
    assert join_video(VideoCodec.H265, [idr]).is_key
    assert not join_video(VideoCodec.H265, [HEVC_SPS_640, pps, idr]).is_key, "it has lost its beginning"


@pytest.mark.parametrize(
    "descriptor",
    [b"", b"\x80\x11", b"\x80\x91\x22", b"\x40\x07", b"\x20\x40", b"\xf0\x91\x22\x07\x40", b"\x10\x01"],
    ids=bytes.hex,
)
@given(data=st.data(), size=SIZES)
def test_vp8(descriptor: bytes, data: st.DataObject, size: int) -> None:
    frame = VP8_KEY_640 + body(data)
    unit = join_video(VideoCodec.VP8, vp8_payloads(frame, size, descriptor))
    assert (unit.data, unit.is_key, unit.width, unit.height) == (frame, True, 640, 360)
    delta = b"\x31" + body(data)
    assert join_video(VideoCodec.VP8, vp8_payloads(delta, size, descriptor)).data == delta


@pytest.mark.parametrize(
    ("flags", "rest"),
    [
        (0, b""),
        (0x80, b"\x11"),
        (0x80, b"\x91\x22"),
        (0xA0, b"\x91\x22\x00\x05"),
        (0xB0, b"\x91\x22\x00"),
        (0xF0, b"\x11\x00\x03\x04"),
        (0x02, b"\x10" + bytes.fromhex("02800168")),
        (0x02, b"\x18" + bytes.fromhex("02800168") + b"\x02\x04\x01\x00"),
    ],
    ids=str,
)
@given(data=st.data(), size=SIZES)
def test_vp9(flags: int, rest: bytes, data: st.DataObject, size: int) -> None:
    frame = VP9_KEY_640 + body(data)
    unit = join_video(VideoCodec.VP9, vp9_payloads(frame, size, flags, rest))
    assert (unit.data, unit.is_key, unit.width, unit.height) == (frame, True, 640, 360)
    delta = b"\x86" + body(data)
    assert not join_video(VideoCodec.VP9, vp9_payloads(delta, size)).is_key


def test_vp9_layers_become_a_superframe_of_the_size_of_the_top_one() -> None:
    structure = b"\x50" + b"".join(n.to_bytes(2) for n in (160, 90, 320, 180, 640, 360))
    low, middle = VP9_KEY_640, b"\x86" + b"m" * 300
    payloads = [
        *vp9_payloads(low, 10, 0x22, b"\x00\x00" + structure),
        *vp9_payloads(middle, 100, 0x20, b"\x02\x00"),
    ]
    unit = join_video(VideoCodec.VP9, payloads)
    marker = bytes((0xC0 | 1 << 3 | 1,))
    index = len(low).to_bytes(2, "little") + len(middle).to_bytes(2, "little")
    assert unit.data == low + middle + marker + index + marker
    assert (unit.is_key, unit.width, unit.height) == (True, 320, 180)


@given(st.data(), SIZES)
def test_av1(data: st.DataObject, size: int) -> None:
    sequence = b"\x08" + AV1_SEQUENCE_640
    frame = b"\x30\x10" + body(data)
    padding = b"\x78" + body(data)
    unit = join_video(VideoCodec.AV1, av1_payloads([sequence, frame, padding], size))
    sized = [
        b"\x0a" + varint(len(AV1_SEQUENCE_640)) + AV1_SEQUENCE_640,
        b"\x32" + varint(len(frame) - 1) + frame[1:],
    ]
    assert unit.data == b"\x12\0" + b"".join(sized)
    assert (unit.is_key, unit.width, unit.height) == (True, 640, 360)
    assert not join_video(VideoCodec.AV1, av1_payloads([b"\x30\x30" + body(data)], size)).is_key


def test_av1_obus_that_say_their_size_or_have_an_extension_are_kept() -> None:
    sized = b"\x32\x03\x10ab"
    extended = b"\x34\x08\x10xy"
    unit = join_video(VideoCodec.AV1, [b"\x20" + varint(len(sized)) + sized + extended])
    assert unit.data == b"\x12\0" + sized + b"\x36\x08\x03\x10xy"


@given(st.integers(0, 2**40))
def test_leb128_both_ways(value: int) -> None:
    assert leb128(b"x" + varint(value) + b"y", 1) == (value, 1 + len(varint(value)))


# --- sizes, from parameter sets that x264, x265, SVT-AV1, libvpx wrote


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        ("6742c01eda0280bfe584000003000400000300f03c58ba80", (640, 360)),
        ("67640028acd940780227e584000003000400000300f03c60c658", (1920, 1080)),
        ("674d401feca02802dd08000003000800000301e078c18cb0", (1280, 720)),
        ("6764000dacd941519e226840000003004000000f03c50a6580", (322, 182)),
        ("6742c00dd903029e7e10000003001000000303c0f142a480", (180, 320)),
        ("6764001facd940b424d080000003008000001e0f8b16cb", (720, 576)),
        ("6764001eacd940a02ff9610000030001000003003c0f162d96", (640, 360)),
    ],
)
def test_h264_sizes(sps: str, size: tuple[int, int]) -> None:
    assert h264.picture_size(bytes.fromhex(sps)) == size


@pytest.mark.parametrize(
    ("sps", "size"),
    [
        (HEVC_SPS_640.hex(), (640, 360)),
        (
            "420101016000000300900000030000030078a003c08010e596566924cae68080000003008000000f04",
            (1920, 1080),
        ),
        ("42010101600000030090000003000003003ca00a480b9c9596566924cae68080000003008000000f04", (322, 182)),
    ],
)
def test_h265_sizes(sps: str, size: tuple[int, int]) -> None:
    assert h265.picture_size(bytes.fromhex(sps)) == size


@pytest.mark.parametrize(
    ("sequence", "size"),
    [
        ("0000000cc4ff6712be4010", (640, 360)),
        ("00000042abbfc3712be401", (1920, 1080)),
        ("000000043d06d44af90040", (322, 182)),
    ],
)
def test_av1_sizes(sequence: str, size: tuple[int, int]) -> None:
    key = b"\x30\x10frame"
    unit = join_video(VideoCodec.AV1, av1_payloads([b"\x08" + bytes.fromhex(sequence), key], 1000))
    assert (unit.width, unit.height) == size


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("824983420077f043760038241c184a18001860fa2ffc3800", (1920, 1080)),
        ("a2498342000282016ac007048383094000066000004381a3", (322, 182)),
    ],
)
def test_vp9_sizes(header: str, size: tuple[int, int]) -> None:
    unit = join_video(VideoCodec.VP9, vp9_payloads(bytes.fromhex(header), 1000))
    assert (unit.width, unit.height) == size


# --- what does not follow the formats


MALFORMED: list[tuple[VideoCodec, str, list[str]]] = [
    (VideoCodec.H264, "nothing", []),
    (VideoCodec.H264, "an empty payload", [""]),
    (VideoCodec.H264, "a fragment without its start", ["7c05aa"]),
    (VideoCodec.H264, "a fragment without its end", ["7c85aa"]),
    (VideoCodec.H264, "another unit within a fragment", ["7c85aa", "41bb"]),
    (VideoCodec.H264, "a fragment without its header", ["7c"]),
    (VideoCodec.H264, "an aggregate longer than its packet", ["18ffff41"]),
    (VideoCodec.H264, "an aggregate of nothing", ["180000"]),
    (VideoCodec.H264, "an aggregate cut in a length", ["1800"]),
    (VideoCodec.H264, "an interleaved packet", ["1a0000"]),
    (VideoCodec.H264, "the reserved type", ["1e00"]),
    (VideoCodec.H264, "a cut parameter set", ["6742", "65aa"]),
    (VideoCodec.H265, "an empty payload", [""]),
    (VideoCodec.H265, "half a header", ["26"]),
    (VideoCodec.H265, "a fragment without its start", ["620113aa"]),
    (VideoCodec.H265, "a fragment without its end", ["620193aa"]),
    (VideoCodec.H265, "an aggregate longer than its packet", ["6001ffff26"]),
    (VideoCodec.H265, "a content information packet", ["6401aabb"]),
    (VideoCodec.VP8, "nothing", []),
    (VideoCodec.VP8, "an empty payload", [""]),
    (VideoCodec.VP8, "no first partition", ["00aabb"]),
    (VideoCodec.VP8, "a start within a frame", ["1031aa", "1031aa"]),
    (VideoCodec.VP8, "a descriptor cut short", ["9080"]),
    (VideoCodec.VP8, "a descriptor and nothing more", ["10"]),
    (VideoCodec.VP8, "a key frame without its start code", ["1030330000000000000000"]),
    (VideoCodec.VP9, "an empty payload", [""]),
    (VideoCodec.VP9, "no start", ["0486"]),
    (VideoCodec.VP9, "no end", ["0886aa"]),
    (VideoCodec.VP9, "a start within a frame", ["0886", "0c86"]),
    (VideoCodec.VP9, "a descriptor and nothing more", ["0c"]),
    (VideoCodec.VP9, "a structure cut short", ["0ef8"]),
    (VideoCodec.VP9, "a wrong marker", ["0c00"]),
    (VideoCodec.VP9, "a key frame without its sync code", ["0c82000000000000000000"]),
    (VideoCodec.AV1, "an empty payload", [""]),
    (VideoCodec.AV1, "no OBU", ["10"]),
    (VideoCodec.AV1, "a header whose extension is missing", ["1004"]),
    (VideoCodec.AV1, "a continuation of nothing", ["9030"]),
    (VideoCodec.AV1, "a cut OBU that is not continued", ["5030", "1030"]),
    (VideoCodec.AV1, "a cut OBU at the end", ["5030"]),
    (VideoCodec.AV1, "more than the packet holds", ["000530"]),
    (VideoCodec.AV1, "fewer OBUs than said", ["300130"]),
    (VideoCodec.AV1, "an endless size", ["00ffffffffffffffffffff"]),
    (VideoCodec.AV1, "a cut sequence header", ["20020800" + "3010"]),
]


@pytest.mark.parametrize(("codec", "what", "payloads"), MALFORMED, ids=lambda each: str(each)[:40])
def test_malformed_payloads(codec: VideoCodec, what: str, payloads: list[str]) -> None:
    with pytest.raises(MalformedPayload):
        join_video(codec, [bytes.fromhex(each) for each in payloads])


@settings(max_examples=300)
@given(st.sampled_from(list(VideoCodec)), st.lists(st.binary(max_size=60), max_size=6))
@example(VideoCodec.H264, [b"\x67" + b"\0" * 30, b"\x65"])
@example(VideoCodec.AV1, [b"\x20\x0c\x08" + b"\xff" * 11 + b"\x30\x10"])
def test_noise_raises_nothing_else(codec: VideoCodec, payloads: list[bytes]) -> None:
    for read in (join_video, has_end):
        with contextlib.suppress(MalformedPayload):
            read(codec, payloads)


# --- audio


def red_packet(blocks: list[tuple[int, bytes]], own: bytes) -> bytes:
    head = b"".join(bytes((0x80 | 111,)) + (offset << 10 | len(data)).to_bytes(3) for offset, data in blocks)
    return head + bytes((111,)) + b"".join(data for _, data in blocks) + own


@given(
    st.lists(st.tuples(st.integers(0, 16_383), st.binary(max_size=200)), max_size=4), st.binary(max_size=300)
)
def test_redundant_audio(blocks: list[tuple[int, bytes]], own: bytes) -> None:
    got = red.split(red_packet(blocks, own))
    assert [(each.timestamp_offset, each.data) for each in got] == [*blocks, (0, own)]
    assert {each.payload_type for each in got} == {111}


@pytest.mark.parametrize("payload", ["", "ef", "ef0000", "ef000005", "ef0000056fabab"])
def test_malformed_redundant_audio(payload: str) -> None:
    with pytest.raises(MalformedPayload):
        red.split(bytes.fromhex(payload))


def test_redundant_audio_ends_where_its_blocks_do() -> None:
    """One byte more or less in a block's length is one of its neighbour's."""
    whole = red_packet([(960, b"abc"), (480, b"")], b"")
    assert [each.data for each in red.split(whole)] == [b"abc", b"", b""]
    with pytest.raises(MalformedPayload, match="is shorter than its header says"):
        red.split(whole[:-1])
    with pytest.raises(MalformedPayload, match="header ends too early"):
        red.split(bytes.fromhex("ef000004"))


@given(st.binary(max_size=80))
def test_noise_in_redundant_audio(payload: bytes) -> None:
    try:
        assert red.split(payload)
    except MalformedPayload:
        pass


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [
        ("00", 10),
        ("08", 20),
        ("18", 60),
        ("60", 10),
        ("78", 20),
        ("80", 2.5),
        ("f8", 20),
        ("f9", 40),
        ("fb03", 60),
    ],
)
def test_opus_durations(packet: str, milliseconds: float) -> None:
    assert opus.duration_samples(bytes.fromhex(packet)) == 48 * milliseconds


@pytest.mark.parametrize("packet", ["", "fb"])
def test_opus_packets_cut_short(packet: str) -> None:
    with pytest.raises(MalformedPayload):
        opus.duration_samples(bytes.fromhex(packet))


def test_pcm_duration() -> None:
    assert pcm.duration_samples(b"\0" * 160) == 160


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (VideoCodec.H264, b"\x78" + b"\x00\x01\x61" * 380),
        (VideoCodec.H265, b"\x60\x01" + b"\x00\x02\x02\x01" * 280),
        (VideoCodec.AV1, b"\x00" + b"\x02\x30\x00" * 380),
    ],
)
def test_a_frame_of_a_million_parts(codec: VideoCodec, payload: bytes) -> None:
    """Whoever sends four thousand packets full of the smallest units keeps nobody waiting for the sum."""
    began_s = time.thread_time()
    with pytest.raises(MalformedPayload, match="more than 1000 parts"):
        join_video(codec, [payload] * 4000)
    assert time.thread_time() - began_s < 0.1


@pytest.mark.parametrize("size", [h264.picture_size, h265.picture_size, av1.picture_size])
def test_parameters_without_end_are_not_read(size: Callable[[bytes], tuple[int, int]]) -> None:
    with pytest.raises(MalformedPayload, match="5000 bytes"):
        size(bytes(5000))
