"""Where a video that nobody here encodes changes its format."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.media import Packet, StreamFormat
from openegress.media.passthrough import FormatChanges, parameters

START = b"\0\0\0\1"
SPS, PPS, IDR = b"\x67\x42\x00\x1f", b"\x68\xce", b"\x65\x88\x80"
LARGER = b"\x67\x42\x00\x28"


@pytest.mark.parametrize(
    ("codec", "key_frame", "found"),
    [
        (VideoCodec.H264, START + SPS + START + PPS + b"\0\0\1" + IDR, SPS),
        (VideoCodec.H264, START + IDR, b""),
        (VideoCodec.H265, START + b"\x40\x01" + START + b"\x42\x01\x01" + START + b"\x26", b"\x42\x01\x01"),
        # A temporal delimiter, a sequence header of three bytes, a frame with an extension.
        (VideoCodec.AV1, b"\x12\x00" + b"\x0a\x03abc" + b"\x36\x08\x02xy", b"\x0a\x03abc"),
        (VideoCodec.VP8, START + SPS, b""),
    ],
)  # fmt: skip
def test_parameters(codec: VideoCodec, key_frame: bytes, found: bytes) -> None:
    assert parameters(codec, key_frame) == found


@given(st.sampled_from(VideoCodec), st.binary(max_size=80))
def test_any_bytes_are_read(codec: VideoCodec, data: bytes) -> None:
    parameters(codec, data)


def packet(data: bytes, *, key: bool = True, kind: MediaKind = MediaKind.VIDEO) -> Packet:
    return Packet(kind, data, 0, 0, 0, Fraction(1, 90_000), key)


@pytest.mark.parametrize(
    ("kbps", "changes"),
    [(0, [False, False, False, True, False, False, True]), (500, [False] * 7)],
)
def test_changes_are_seen_at_key_frames_of_what_is_passed_through(kbps: int, changes: list[bool]) -> None:
    base = Fraction(1, 90_000)
    watch = FormatChanges(
        [
            StreamFormat(MediaKind.AUDIO, AudioCodec.OPUS, base, None, 0),
            StreamFormat(MediaKind.VIDEO, VideoCodec.H264, base, None, kbps),
        ]
    )
    packets = [
        packet(START + SPS + START + IDR),
        packet(START + LARGER, key=False),
        packet(START + SPS + START + IDR),
        packet(START + LARGER + START + IDR),
        packet(START + IDR),
        packet(START + LARGER + START + IDR),
        packet(START + SPS),
    ]
    assert [watch.begin_with(each) for each in packets] == changes
    assert not watch.begin_with(packet(START + SPS, kind=MediaKind.AUDIO))
