"""Still pictures through our encoder: what x264 has to see, and what a decoder makes of the stream."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from openegress.core.codecs import EncoderSpeed, H264Profile, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.canvas import Canvas, planes
from openegress.media.encoder import VideoEncoder
from openegress.media.geometry import Rect
from openegress.media.still import Step, StillPictures
from testkit.pattern import COLOURS, Picture, PictureSpec

FPS = 30
KEY_SLOTS = 120


def pictures(width: int, height: int, count: int) -> list[av.VideoFrame]:
    """Moving noise, which takes all of a low bit rate."""
    drawn = Picture(PictureSpec(width, height, FPS, COLOURS[0], busy=True))
    return [frame_of(drawn.draw(5 * number), width, height) for number in range(count)]


def frame_of(data: bytearray, width: int, height: int) -> av.VideoFrame:
    frame, at = av.VideoFrame(width, height, "yuv420p"), 0
    for plane in planes(frame):
        size = plane.shape[0] * plane.shape[1]
        plane[:] = np.frombuffer(data, np.uint8, size, at).reshape(plane.shape)
        at += size
    return frame


def asked(
    width: int,
    height: int,
    profile: H264Profile = H264Profile.MAIN,
    kbps: int = 1000,
    speed: EncoderSpeed = EncoderSpeed.VERYFAST,
) -> VideoEncoding:
    return VideoEncoding(width, height, FPS, kbps, KEY_SLOTS / FPS, VideoCodec.H264, profile, speed)


def encoded(encoder: VideoEncoder, shown: Sequence[av.VideoFrame]) -> list[Packet]:
    packets: list[Packet] = []
    for slot, frame in enumerate(shown):
        packets += encoder.encode(frame, slot * S // FPS)
    return packets + encoder.flush()


def decoded(encoder: VideoEncoder, packets: Sequence[Packet]) -> list[NDArray[np.int32]]:
    template = encoder.format.template
    assert template is not None
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata, decoder.thread_count = template.codec_context.extradata, 1
    decoder.options = {"err_detect": "explode"}
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet.data))]
    return [frame.to_ndarray().astype(np.int32) for frame in [*frames, *decoder.decode(None)]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The PTS of pictures that need x264."""
    needed: list[int] = []
    take = StillPictures.take

    def counted(still: StillPictures, pts: int, *, is_new: bool, is_key: bool) -> Step:
        step = take(still, pts, is_new=is_new, is_key=is_key)
        needed.extend(each.pts for each in step.inputs)
        return step

    monkeypatch.setattr(StillPictures, "take", counted)
    return needed


@pytest.mark.parametrize(
    ("size", "profile", "speed"),
    [
        *product([(640, 360), (1280, 736)], H264Profile, [EncoderSpeed.VERYFAST]),
        *product([(640, 360)], H264Profile, [EncoderSpeed.ULTRAFAST, EncoderSpeed.SUPERFAST]),
    ],
)
def test_repeats_are_the_very_picture_and_changes_come_in_their_slot(
    seen: list[int], size: tuple[int, int], profile: H264Profile, speed: EncoderSpeed
) -> None:
    first, second, third = pictures(*size, 3)
    shown = [first] * 70 + [second] * 90 + [third] * 20
    encoder = VideoEncoder(asked(*size, profile, 8000, speed), steady=False)
    packets = encoded(encoder, shown)
    got = decoded(encoder, packets)
    ticks = [slot * S // FPS for slot in range(len(shown))]
    assert [packet.pts_ns // 10**6 for packet in packets] == [ns // 10**6 for ns in ticks]
    assert [slot for slot, packet in enumerate(packets) if packet.is_key] == [0, KEY_SLOTS]
    assert len(got) == len(shown)
    for slot, picture in enumerate(got):
        part = picture[::8, ::8]
        errors = [float(np.abs(part - each.to_ndarray()[::8, ::8]).mean()) for each in (first, second, third)]
        assert errors.index(min(errors)) == (slot >= 70) + (slot >= 160), slot
    # At superfast x264 goes on refining such noise until the next key frame.
    settled = (50, 150) if speed is EncoderSpeed.SUPERFAST else (50, 110, 150)
    assert all((got[slot] == got[slot + 1]).all() for slot in settled)
    assert len(seen) < len(shown) // 2


@pytest.mark.parametrize("speed", [EncoderSpeed.VERYFAST, EncoderSpeed.ULTRAFAST])
def test_key_frames_of_what_does_not_change_are_the_first_one_again(
    seen: list[int], speed: EncoderSpeed
) -> None:
    """Each is a key frame, of the same picture, and what changes later is right on top of it. At superfast
    x264 goes on refining what is drawn here."""
    canvas = Canvas(640, 360)
    for column in range(0, 640, 40):
        canvas.fill(Rect(column, 0, 20, 360), (60 + column // 5, 100 + column // 16, 140))
    still = canvas.picture()
    canvas.fill(Rect(100, 100, 200, 100), (40, 128, 90))
    changed = canvas.picture()
    shown = [still] * (3 * KEY_SLOTS + 50) + [changed] * (2 * KEY_SLOTS)
    encoder = VideoEncoder(asked(640, 360, speed=speed), steady=False)
    packets = encoded(encoder, shown)
    keys = [slot for slot, packet in enumerate(packets) if packet.is_key]
    assert keys == list(range(0, len(shown), KEY_SLOTS)) and len(packets) == len(shown)
    got = decoded(encoder, packets)
    assert all((got[slot] == got[100]).all() for slot in (KEY_SLOTS - 1, 3 * KEY_SLOTS + 49))
    assert all((got[slot] == got[slot - KEY_SLOTS]).all() for slot in range(KEY_SLOTS, 3 * KEY_SLOTS))
    for slot in (3 * KEY_SLOTS + 80, 4 * KEY_SLOTS + 80, len(shown) - 1):
        assert np.abs(got[slot] - changed.to_ndarray().astype(np.int32)).mean() < 1, slot
    assert len(seen) < KEY_SLOTS
    # From each key frame on by itself, as after seeking.
    for key in keys[1:4]:
        tail = decoded(encoder, packets[key:])
        assert all((one == other).all() for one, other in zip(tail, got[key:], strict=True))


@pytest.mark.parametrize(("count", "longest"), [(12, 20), (4, 100)])
def test_quality_and_rate_are_those_of_an_encoder_that_sees_all(
    seen: list[int], count: int, longest: int
) -> None:
    frames = pictures(640, 360, count)
    shown = [each for index, each in enumerate(frames) for _ in range(1 + longest * (index % 4))]
    sources = [each.to_ndarray().astype(int) for each in shown]
    measured = []
    for sees_all in (True, False):
        encoder = VideoEncoder(asked(640, 360), steady=False)
        if sees_all:
            encoder._still = None
        packets = encoded(encoder, shown)
        noise = [
            ((got - true) ** 2).mean() for got, true in zip(decoded(encoder, packets), sources, strict=True)
        ]
        measured.append(
            (10 * np.log10(255**2 / np.array(noise)).mean(), sum(len(each.data) for each in packets))
        )
    (psnr_all, bytes_all), (psnr, size) = measured
    assert len(seen) < len(shown)
    assert psnr > psnr_all - 0.1 and size < 1.02 * bytes_all


def test_the_speed_is_what_x264_says_it_was_set_to() -> None:
    """In the text that it puts before the first picture."""
    for speed, wanted in (
        (EncoderSpeed.ULTRAFAST, (b"cabac=0", b"subme=0", b"rc_lookahead=0")),
        (EncoderSpeed.SUPERFAST, (b"cabac=1", b"subme=1", b"rc_lookahead=0")),
        (EncoderSpeed.VERYFAST, (b"cabac=1", b"subme=2", b"rc_lookahead=5")),
    ):
        encoder = VideoEncoder(asked(320, 180, speed=speed), steady=False)
        template = encoder.format.template
        assert template is not None
        head = (template.codec_context.extradata or b"") + encoded(encoder, pictures(320, 180, 3))[0].data
        assert all(text in head for text in wanted), speed


@pytest.mark.parametrize("kind", ["steady", "vp8"])
def test_elsewhere_the_encoder_sees_all(seen: list[int], kind: str) -> None:
    codec = VideoCodec.VP8 if kind == "vp8" else VideoCodec.H264
    encoding = VideoEncoding(320, 180, FPS, 300, 4.0, codec)
    encoder = VideoEncoder(encoding, steady=kind == "steady")
    assert len(encoded(encoder, pictures(320, 180, 1) * 40)) == 40
    assert seen == []


def test_a_picture_drawn_on_a_canvas_is_a_new_one() -> None:
    """The sources' pictures are the same object only while nothing is drawn."""
    canvas = Canvas(64, 64)
    encoder = VideoEncoder(VideoEncoding(64, 64, FPS, 300, 4.0), steady=False)
    shown = [canvas.picture() for _ in range(40)]
    canvas.fill(Rect(0, 0, 32, 64), (200, 128, 128))
    shown += [canvas.picture() for _ in range(10)]
    got = decoded(encoder, encoded(encoder, shown))
    assert len(got) == 50 and Fraction(encoder.format.framerate) == FPS
    assert [int(picture[:64, :28].mean()) > 150 for picture in got] == [False] * 40 + [True] * 10
