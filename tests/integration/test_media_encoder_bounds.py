"""Encodings at the bounds of what a request may ask for, made by the encoders themselves."""

import os
from pathlib import Path

import av
import pytest

from openegress.core.codecs import AskedCodec, AudioCodec, EncoderSpeed, VideoCodec
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.encoder import AudioEncoder, VideoEncoder
from openegress.media.frame_queue import QueuedPicture
from openegress.media.pipeline import EncodePipeline
from openegress.request import encoding
from openegress.request.picture_codec import MAX_AV1_HEIGHT, MIN_AV1_SIDE

FRAME_NS = 20_000_000


@pytest.mark.parametrize("rate", encoding.SAMPLE_RATES_HZ)
def test_aac_takes_every_rate(rate: int) -> None:
    encoder = AudioEncoder(AudioEncoding(AudioCodec.AAC, kbps=64, sample_rate=rate))
    packets = [packet for n in range(50) for packet in encoder.encode(bytes(960 * 4), n * FRAME_NS, 48_000)]
    assert encoder.format.sample_rate == rate
    # AAC has 1024 samples in a packet; the last two are still in the encoder, or its resampler.
    assert len(packets) >= rate // 1024 - 2


@pytest.mark.parametrize(
    ("width", "height", "framerate", "interval_s"),
    [
        (320, 180, encoding.MAX_FRAMERATE, 2.0),
        (320, 180, 30, encoding.MAX_KEY_FRAME_INTERVAL_S),
        (encoding.MAX_SIDE, 64, 30, 2.0),
        (64, encoding.MAX_SIDE, 30, 2.0),
    ],
)
def test_h264_takes_every_bound(width: int, height: int, framerate: int, interval_s: float) -> None:
    asked = VideoEncoding(width, height, framerate, kbps=500, key_frame_interval_s=interval_s)
    encoder = VideoEncoder(asked, steady=False)
    packets = []
    for n in range(20):
        packets += encoder.encode(av.VideoFrame(width, height, "yuv420p"), n * 1_000_000_000 // framerate)
    packets += encoder.flush()
    assert len(packets) == 20 and packets[0].is_key


class Keys:
    """A sink that remembers when key frames were."""

    def __init__(self) -> None:
        self.pts_ns: list[int] = []

    def write(self, packet: Packet) -> None:
        if packet.is_key:
            self.pts_ns.append(packet.pts_ns)


async def test_every_key_frame_that_is_asked_for_comes() -> None:
    """A file that is split asks for one to come, a stream that is added meanwhile for one at once."""
    asked = VideoEncoding(64, 64, 10, kbps=100, key_frame_interval_s=100.0)
    pipeline = EncodePipeline(asked, None, steady=True, on_error=lambda _: None)
    keys = Keys()
    pipeline.attach([keys], [])
    for n in range(40):
        if n == 10:
            pipeline.key_frame_at(3 * S)
            pipeline.key_frame_at(0)
        pipeline._encode(QueuedPicture(av.VideoFrame(64, 64, "yuv420p"), n * S // 10))
    pipeline.start()
    await pipeline.finish()
    assert keys.pts_ns == [0, S, 3 * S]


@pytest.mark.parametrize("codec", [each.codec for each in AskedCodec])
@pytest.mark.parametrize(
    ("width", "height", "framerate"),
    [
        (encoding.MIN_SIDE, encoding.MIN_SIDE, 30),
        (322, 182, encoding.MAX_FRAMERATE),
        (encoding.MAX_SIDE, 64, 30),
        (64, encoding.MAX_SIDE, 30),
        (1922, 1082, 60),
    ],
)
def test_every_codec_takes_every_bound(codec: VideoCodec, width: int, height: int, framerate: int) -> None:
    if codec is VideoCodec.AV1:
        width, height = max(width, MIN_AV1_SIDE), max(MIN_AV1_SIDE, min(height, MAX_AV1_HEIGHT))
    asked = VideoEncoding(width, height, framerate, 500, 4.0, codec)
    encoder = VideoEncoder(asked, steady=False)
    packets = []
    for n in range(12):
        packets += encoder.encode(av.VideoFrame(width, height, "yuv420p"), n * 1_000_000_000 // framerate)
    packets += encoder.flush()
    assert len(packets) == 12 and [packet.is_key for packet in packets].count(True) == 1


@pytest.mark.parametrize("codec", [each.codec for each in AskedCodec])
def test_every_codec_takes_every_speed(codec: VideoCodec) -> None:
    for speed in EncoderSpeed:
        encoder = VideoEncoder(VideoEncoding(320, 180, 30, 500, 4.0, codec, speed=speed), steady=False)
        packets = [*encoder.encode(av.VideoFrame(320, 180, "yuv420p"), 0), *encoder.flush()]
        assert len(packets) == 1 and packets[0].is_key


def test_no_thread_of_an_encoder_comes_before_all_others() -> None:
    """SVT-AV1 would have it so, of whoever runs as root."""
    before = threads()
    encoder = VideoEncoder(VideoEncoding(320, 180, 30, 500, 4.0, VideoCodec.AV1), steady=False)
    its_own = threads() - before
    assert len(its_own) > 10
    assert {os.sched_getscheduler(thread) for thread in its_own} == {os.SCHED_OTHER}
    encoder.flush()


def threads() -> set[int]:
    return {int(each.name) for each in Path("/proc/self/task").iterdir()}
