"""Decoders and the canvas on FFmpeg itself: what was drawn is what is seen, whatever codec and size."""

import numpy as np
import pytest
from av import VideoFrame

from openegress.core.codecs import VideoCodec
from openegress.core.errors import EgressError, Phase
from openegress.media.canvas import Canvas, Fitter, planes
from openegress.media.decoder import VideoDecoder
from openegress.media.geometry import Fit, Rect, contain, fitting
from openegress.media.passthrough import video_format
from openegress.room.budget import MAX_PIXELS
from testkit import probe
from testkit.live_encoder import LiveEncoder
from testkit.pattern import Matrix, Picture, PictureSpec, read_counter
from testkit.probe import colour_of

COLOUR = (200, 60, 40)
"""Red: where BT.601 and BT.709 differ most."""


def units(codec: VideoCodec, width: int, height: int, count: int = 12) -> list[tuple[bytes, bool]]:
    picture = Picture(PictureSpec(width, height, 30, COLOUR, matrix=Matrix.BT601))
    encoder = LiveEncoder(codec.value, width, height, 30, 1000)
    encoded = [encoder.encode(picture.draw(n + 5), n) for n in range(count)]
    return [(unit.data, unit.is_key) for unit in encoded]


def on_canvas(picture: VideoFrame) -> VideoFrame:
    """640x360, the picture whole."""
    canvas = Canvas(640, 360)
    fit = fitting(picture.width, picture.height, canvas.whole, Fit.CONTAIN)
    canvas.paste(Fitter().fit(picture, fit), fit.into)
    return canvas.picture()


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("size", [(640, 360), (320, 240), (180, 320)])
def test_each_picture_is_seen(codec: VideoCodec, size: tuple[int, int]) -> None:
    decoder = VideoDecoder(codec, MAX_PIXELS)
    rect = contain(*size, 640, 360)
    seen = []
    for number, (data, is_key) in enumerate(units(codec, *size)):
        [picture] = decoder.decode(data, number, is_key=is_key)
        assert picture.pts == number
        drawn = on_canvas(picture)
        luma = planes(drawn)[0]
        assert luma.shape == (360, 640)
        seen.append(read_counter(luma[:, rect.x : rect.x + rect.width]))
        shown = probe.Rect(rect.x + 20, rect.height // 4, rect.width - 40, rect.height // 4)
        assert colour_of(drawn, shown) == pytest.approx(COLOUR, abs=9)
        if rect.x:
            assert colour_of(drawn, probe.Rect(0, 0, rect.x - 2, 360)) == pytest.approx((0, 0, 0), abs=1)
    assert seen == list(range(5, 17))


@pytest.mark.parametrize("matrix", list(Matrix))
@pytest.mark.parametrize("size", [(640, 360), (320, 180)])
def test_colours_that_say_what_they_are(matrix: Matrix, size: tuple[int, int]) -> None:
    picture = Picture(PictureSpec(*size, 30, COLOUR, matrix=matrix))
    planar = np.frombuffer(picture.draw(31), np.uint8).reshape(size[1] * 3 // 2, size[0])
    frame = VideoFrame.from_ndarray(planar, "yuv420p")
    frame.colorspace = 1 if matrix is Matrix.BT709 else 6
    drawn = on_canvas(frame)
    assert colour_of(drawn, probe.Rect(40, 80, 560, 80)) == pytest.approx(COLOUR, abs=4)


def test_nothing_is_shown_from_a_gap_to_the_next_key_frame() -> None:
    decoder = VideoDecoder(VideoCodec.VP8, MAX_PIXELS)
    stream = units(VideoCodec.VP8, 320, 180)
    assert decoder.decode(stream[1][0], 1, is_key=False) == []
    assert decoder.awaits_key
    assert len(decoder.decode(stream[0][0], 0, is_key=True)) == 1
    assert len(decoder.decode(stream[1][0], 1, is_key=False)) == 1
    assert decoder.decode(stream[3][0], 3, is_key=False, after_gap=True) == []
    assert decoder.decode(stream[4][0], 4, is_key=False) == []
    assert decoder.awaits_key
    assert len(decoder.decode(stream[0][0], 0, is_key=True)) == 1


def test_damage_asks_for_a_key_frame() -> None:
    decoder = VideoDecoder(VideoCodec.VP9, MAX_PIXELS)
    assert decoder.decode(b"\xff" * 50, 0, is_key=True) == []
    assert decoder.awaits_key


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_parameters_from_a_key_frame(codec: VideoCodec) -> None:
    found = video_format(codec, units(codec, 320, 240, 1)[0][0], 320, 240)
    assert (found.codec, found.width, found.height) == (codec, 320, 240)
    needs = codec in (VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1)
    assert (found.template is not None) is needs


def test_no_parameters_in_noise() -> None:
    with pytest.raises(EgressError) as refused:
        video_format(VideoCodec.H264, b"\x00\x00\x00\x01\x09\xf0", 320, 240)
    assert refused.value.phase is Phase.FIRST_FRAME


SIDES = (1, 2, 3, 4, 5, 7, 15, 16, 17, 33, 64, 319, 4096)
FORMATS = (
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv440p",
    "yuv444p",
    "yuv420p10le",
    "gbrp",
    "gray",
    "yuv444p12le",
)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("pixels", FORMATS)
def test_a_picture_of_any_size_is_drawn(pixels: str, fit: Fit) -> None:
    """One fitter for all, as of a sender that changes its size with each picture."""
    fitter = Fitter()
    for rect in (Rect(0, 0, 320, 180), Rect(8, 8, 2, 2), Rect(8, 8, 64, 170)):
        canvas = Canvas(320, 180)
        for width in SIDES:
            for height in SIDES:
                if width * height > 2_000_000:
                    continue
                fitted = fitting(width, height, rect, fit)
                canvas.paste(fitter.fit(VideoFrame(width, height, pixels), fitted), fitted.into)


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_a_picture_that_is_too_large_is_not_decoded(codec: VideoCodec) -> None:
    stream = units(codec, 640, 360, 3)
    assert VideoDecoder(codec, 640 * 368).decode(stream[0][0], 0, is_key=True) != []
    small = VideoDecoder(codec, 640 * 300)
    assert [small.decode(data, at, is_key=is_key) for at, (data, is_key) in enumerate(stream)] == [[]] * 3
    assert small.awaits_key
