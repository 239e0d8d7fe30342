"""Decoders and the canvas on FFmpeg itself: what was drawn is what is seen, whatever codec and size."""

import numpy as np
import pytest
from av import VideoFrame

from openegress.core.codecs import VideoCodec
from openegress.core.errors import EgressError, Phase
from openegress.media.canvas import Canvas, Fit, Fitter, contain, fitting, planes
from openegress.media.decoder import VideoDecoder
from openegress.media.passthrough import video_format
from testkit.live_encoder import LiveEncoder
from testkit.pattern import Matrix, Picture, PictureSpec, read_counter
from testkit.probe import Rect, colour_of

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
    decoder = VideoDecoder(codec)
    rect = contain(*size, 640, 360)
    seen = []
    for data, is_key in units(codec, *size):
        picture = decoder.decode(data, is_key=is_key)
        assert picture is not None
        drawn = on_canvas(picture)
        luma = planes(drawn)[0]
        assert luma.shape == (360, 640)
        seen.append(read_counter(luma[:, rect.x : rect.x + rect.width]))
        shown = Rect(rect.x + 20, rect.height // 4, rect.width - 40, rect.height // 4)
        assert colour_of(drawn, shown) == pytest.approx(COLOUR, abs=9)
        if rect.x:
            assert colour_of(drawn, Rect(0, 0, rect.x - 2, 360)) == pytest.approx((0, 0, 0), abs=1)
    assert seen == list(range(5, 17))


@pytest.mark.parametrize("matrix", list(Matrix))
@pytest.mark.parametrize("size", [(640, 360), (320, 180)])
def test_colours_that_say_what_they_are(matrix: Matrix, size: tuple[int, int]) -> None:
    picture = Picture(PictureSpec(*size, 30, COLOUR, matrix=matrix))
    planar = np.frombuffer(picture.draw(31), np.uint8).reshape(size[1] * 3 // 2, size[0])
    frame = VideoFrame.from_ndarray(planar, "yuv420p")
    frame.colorspace = 1 if matrix is Matrix.BT709 else 6
    drawn = on_canvas(frame)
    assert colour_of(drawn, Rect(40, 80, 560, 80)) == pytest.approx(COLOUR, abs=4)


def test_nothing_is_shown_from_a_gap_to_the_next_key_frame() -> None:
    decoder = VideoDecoder(VideoCodec.VP8)
    stream = units(VideoCodec.VP8, 320, 180)
    assert decoder.decode(stream[1][0], is_key=False) is None
    assert decoder.awaits_key
    assert decoder.decode(stream[0][0], is_key=True) is not None
    assert decoder.decode(stream[1][0], is_key=False) is not None
    assert decoder.decode(stream[3][0], is_key=False, after_gap=True) is None
    assert decoder.decode(stream[4][0], is_key=False) is None
    assert decoder.awaits_key
    assert decoder.decode(stream[0][0], is_key=True) is not None


def test_damage_asks_for_a_key_frame() -> None:
    decoder = VideoDecoder(VideoCodec.VP9)
    assert decoder.decode(b"\xff" * 50, is_key=True) is None
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
