import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.room.rtp import packets, rtcp
from openegress.room.rtp.rtcp import ReportBlock, SenderReport


def packet(*, first: int = 0x80, payload_type: int = 96, marker: bool = True, rest: bytes = b"abc") -> bytes:
    return struct.pack("!BBHII", first, payload_type | marker << 7, 7, 9, 11) + rest


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (packet(), b"abc"),
        (packet(rest=b""), b""),
        (packet(first=0x82, rest=b"\0" * 8 + b"xy"), b"xy"),
        (packet(first=0x90, rest=b"\xbe\xde\0\1\0\0\0\0xy"), b"xy"),
        (packet(first=0xA0, rest=b"xy\0\0\3"), b"xy"),
        (packet(first=0xA0, rest=b"\0\0\0\4"), b""),
        (packet(first=0xB1, rest=b"\0" * 4 + b"\x10\0\0\0" + b"z\1"), b"z"),
    ],
)
def test_payload_without_header_extension_and_padding(data: bytes, payload: bytes) -> None:
    parsed = packets.parse(data)
    assert parsed == packets.RtpPacket(11, 96, 7, 9, True, payload)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet()[:11],
        packet(first=0x40),
        packet(first=0x8F),
        packet(first=0x90, rest=b"\0\0"),
        packet(first=0x90, rest=b"\xbe\xde\0\2\0\0\0\0"),
        packet(first=0xA0, rest=b"ab\0"),
        packet(first=0xA0, rest=b"ab\xff"),
    ],
)
def test_what_is_no_packet(data: bytes) -> None:
    assert packets.parse(data) is None


@given(st.binary(max_size=64))
def test_parsing_never_raises(data: bytes) -> None:
    packets.parse(data)
    rtcp.sender_reports(data)


def test_retransmission_holds_the_original_sequence() -> None:
    repeated = packets.parse(packet(rest=b"\x12\x34xyz"))
    assert repeated is not None
    original = packets.unwrap_rtx(repeated)
    assert original is not None
    assert (original.sequence, original.payload) == (0x1234, b"xyz")
    assert packets.unwrap_rtx(original._replace(payload=b"x")) is None


def test_sender_report_beside_a_goodbye() -> None:
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 5, rtcp.NTP_UNIX_OFFSET_S + 100, 1 << 31, 4242, 1, 2)
    goodbye = struct.pack("!BBHI", 0x81, 203, 1, 5)
    told = SenderReport(5, 100_500_000_000, 4242, ((rtcp.NTP_UNIX_OFFSET_S + 100) & 0xFFFF) << 16 | 0x8000)
    assert rtcp.sender_reports(report + goodbye) == [told]
    assert rtcp.sender_reports(goodbye + report) == [told]
    assert rtcp.sender_reports(report[:-4]) == []
    assert rtcp.sender_reports(report + goodbye[:-1]) == [told]


def test_receiver_reports_are_split_at_31_blocks() -> None:
    blocks = [ReportBlock(n, 128, -1 if n else 5, 70_000, 3, 4, 5) for n in range(40)]
    first, second = rtcp.receiver_reports(99, blocks)
    assert struct.unpack_from("!BBHI", first) == (0x80 | 31, 201, 1 + 6 * 31, 99)
    assert struct.unpack_from("!BBHI", second) == (0x80 | 9, 201, 1 + 6 * 9, 99)
    assert struct.unpack_from("!IIIIII", first, 8) == (0, 128 << 24 | 5, 70_000, 3, 4, 5)
    assert struct.unpack_from("!I", first, 8 + 24 + 4) == (128 << 24 | 0xFFFFFF,)
    assert rtcp.receiver_reports(99, []) == []


def test_picture_loss() -> None:
    assert rtcp.picture_loss(1, 2) == struct.pack("!BBHII", 0x81, 206, 2, 1, 2)


def requested(packets: list[bytes]) -> list[int]:
    found = []
    for each in packets:
        first, kind, words, sender, media = struct.unpack_from("!BBHII", each)
        assert (first, kind, sender, media) == (0x81, 205, 1, 2)
        assert len(each) == 4 * (words + 1)
        for position in range(12, len(each), 4):
            base, mask = struct.unpack_from("!HH", each, position)
            found += [base, *((base + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)]
    return found


@given(st.sets(st.integers(0x10000, 0x13000), max_size=600))
def test_nacks_request_exactly_what_is_missing(sequences: set[int]) -> None:
    wanted = sorted(sequences)
    assert requested(rtcp.nacks(1, 2, wanted)) == [each & 0xFFFF for each in wanted]


@pytest.mark.parametrize(
    ("sequences", "items"),
    [
        ([0], [(0, 0)]),
        ([5, 6, 21], [(5, 0x8001)]),
        ([5, 22], [(5, 0), (22, 0)]),
        ([0, 1], [(0, 1)]),
    ],
)
def test_a_nack_names_seventeen_packets(sequences: list[int], items: list[tuple[int, int]]) -> None:
    """A packet and a mask of the sixteen that follow it (RFC 4585 section 6.2.1)."""
    [packet] = rtcp.nacks(1, 2, sequences)
    assert packet == struct.pack("!BBHII", 0x81, 205, 2 + len(items), 1, 2) + b"".join(
        struct.pack("!HH", *item) for item in items
    )


@pytest.mark.parametrize("version", [0, 1, 3])
def test_reports_of_another_version_are_none(version: int) -> None:
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 7, 1, 2, 3, 4, 5)
    assert len(rtcp.sender_reports(report)) == 1
    assert rtcp.sender_reports(bytes((version << 6,)) + report[1:]) == []


def test_a_report_that_is_too_short_is_none_and_what_follows_is_read() -> None:
    short = struct.pack("!BBHI", 0x80, 200, 1, 7)
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 8, 1, 2, 3, 4, 5)
    assert [each.ssrc for each in rtcp.sender_reports(short + report)] == [8]


def test_nacks_over_the_wrap_around() -> None:
    assert requested(rtcp.nacks(1, 2, [0x1FFFE, 0x1FFFF, 0x20000, 0x20020])) == [0xFFFE, 0xFFFF, 0, 0x20]
