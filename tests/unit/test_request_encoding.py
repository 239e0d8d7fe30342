"""Encodings for any options: within bounds, key frames where segments begin, codecs every output takes."""

import math

from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import EncodingOptions

from openegress.core.codecs import CONTAINER_AUDIO, CONTAINER_VIDEO, AudioCodec, Container, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.request import encoding
from openegress.request.encoding import Wish

int32 = st.integers(-(2**31), 2**31 - 1)
sensible = st.integers(-2, 200) | st.sampled_from([640, 1280, 1920, 7680, 44_100, 48_000, 3000])
options = st.builds(
    EncodingOptions,
    width=sensible | int32,
    height=sensible | int32,
    depth=st.sampled_from([0, 8, 16, 24]) | int32,
    framerate=sensible | int32,
    audio_codec=st.sampled_from([0, 1, 2, 3]),
    audio_bitrate=sensible | int32,
    audio_frequency=sensible | int32,
    video_codec=st.sampled_from([0, 1, 2, 3, 4]),
    video_bitrate=sensible | int32,
    key_frame_interval=st.floats() | st.integers(0, 20).map(float),
)
valid_wishes = st.builds(
    Wish,
    framerate=st.integers(1, encoding.MAX_FRAMERATE),
    key_frame_interval_s=st.just(0.0) | st.floats(0.01, encoding.MAX_KEY_FRAME_INTERVAL_S),
    audio_codec=st.sampled_from([None, *encoding.ENCODED_AUDIO]),
    video_codec=st.sampled_from([None, VideoCodec.H264]),
)


@given(options)
def test_any_options_are_within_bounds_or_refused(wire: EncodingOptions) -> None:
    try:
        wish = encoding.from_options(wire)
    except EgressError as error:
        assert error.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
        return
    assert 16 <= wish.width <= encoding.MAX_SIDE and wish.width % 2 == 0
    assert 16 <= wish.height <= encoding.MAX_SIDE and wish.height % 2 == 0
    assert 1 <= wish.framerate <= encoding.MAX_FRAMERATE
    assert wish.video_kbps > 0 and wish.audio_kbps > 0
    assert wish.sample_rate in encoding.SAMPLE_RATES_HZ
    assert 0 <= wish.key_frame_interval_s <= encoding.MAX_KEY_FRAME_INTERVAL_S


@given(valid_wishes, st.integers(1, 600), st.booleans())
def test_every_segment_begins_with_a_key_frame(wish: Wish, segment_s: int, streamed: bool) -> None:
    video = encoding.video_encoding(wish, VideoCodec.H264, segment_s, streamed)
    interval_s = video.key_frame_interval_s
    parts = segment_s / interval_s
    frames = interval_s * wish.framerate
    assert math.isclose(parts, round(parts), rel_tol=1e-9)
    assert math.isclose(frames, round(frames), rel_tol=1e-9)
    one_frame_s = 1 / wish.framerate
    if wish.key_frame_interval_s:
        assert interval_s <= max(wish.key_frame_interval_s, one_frame_s) + 1e-9
    elif streamed:
        assert interval_s <= 4.0


containers = st.sampled_from([Container.TS, Container.FMP4, Container.FLV])


@given(
    valid_wishes,
    st.sampled_from([None, Container.MP4, Container.OGG, Container.MP3, Container.WEBM]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(containers, max_size=2, unique=True),
)
def test_the_codecs_chosen_fit_every_output(
    wish: Wish,
    file: Container | None,
    default_file: bool,
    has_audio: bool,
    has_video: bool,
    others: list[Container],
) -> None:
    streamed = Container.FLV in others
    try:
        formats = encoding.choose(
            wish,
            has_audio=has_audio,
            has_video=has_video,
            file=file,
            default_file=default_file and file is None,
            others=others,
            streamed=streamed,
        )
    except EgressError as error:
        assert error.code is Code.INVALID_ARGUMENT
        return
    for container in [*([formats.file] if formats.file else []), *others]:
        assert formats.audio is None or formats.audio in CONTAINER_AUDIO[container]
        assert formats.video is None or formats.video in CONTAINER_VIDEO[container]
    assert (formats.audio is not None) == has_audio
    assert (formats.video is not None) == has_video
    if has_audio and wish.audio_codec and not streamed:
        assert formats.audio is wish.audio_codec
    if streamed and has_audio:
        assert formats.audio is AudioCodec.AAC
