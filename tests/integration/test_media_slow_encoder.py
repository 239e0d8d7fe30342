"""An encoder that is too slow for a while gets half the pictures, evenly, and all of them afterwards."""

import asyncio
import itertools
import threading
import time

import av
import pytest

from openegress.core.errors import EgressError
from openegress.core.plan import VideoEncoding
from openegress.media import NS, Packet, overload
from openegress.media.encoder import VideoEncoder
from openegress.media.overload import Rate
from openegress.media.pipeline import EncodePipeline

pytestmark = pytest.mark.quiet

FPS = 30
SLOW_S = 0.06
"""For a picture: twice what there is at full rate, enough at half of it."""


class Taken:
    """A sink that remembers when each picture was."""

    def __init__(self) -> None:
        self.pts_ns: list[int] = []

    def write(self, packet: Packet) -> None:
        self.pts_ns.append(packet.pts_ns)


async def test_half_the_rate_while_the_encoder_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "WINDOW_S", 0.2)
    monkeypatch.setattr(overload, "PRESSED_WINDOWS", 2)
    monkeypatch.setattr(overload, "CALM_S", 1.0)
    slow = threading.Event()
    slow.set()
    encode = VideoEncoder.encode

    def encode_slowly(encoder: VideoEncoder, frame: av.VideoFrame, pts_ns: int) -> list[Packet]:
        if slow.is_set():
            time.sleep(SLOW_S)
        return encode(encoder, frame, pts_ns)

    monkeypatch.setattr(VideoEncoder, "encode", encode_slowly)
    encoding = VideoEncoding(64, 64, FPS, kbps=100, key_frame_interval_s=4.0)
    errors: list[EgressError] = []
    pipeline = EncodePipeline(encoding, None, steady=False, on_error=errors.append)
    taken = Taken()
    pipeline.attach([taken], [])
    pipeline.start()
    assert pipeline._overload is not None
    begun_s, number = time.monotonic(), 0

    async def feed_until(rate: Rate) -> int:
        nonlocal number
        async with asyncio.timeout(20):
            while pipeline._overload is not None and pipeline._overload.rate is not rate:
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([number % 256]) * plane.buffer_size)
                pipeline.video(frame, number * NS // FPS)
                number += 1
                await asyncio.sleep(max(0.0, begun_s + number / FPS - time.monotonic()))
        return number * NS // FPS

    halved_ns = await feed_until(Rate.HALF)
    slow.clear()
    restored_ns = await feed_until(Rate.FULL)
    await pipeline.finish()
    assert errors == []
    between = [pts for pts in taken.pts_ns if halved_ns + NS // 3 < pts < restored_ns]
    steps = {round((b - a) * FPS / NS) for a, b in itertools.pairwise(between)}
    assert min(steps) == 2
    assert pipeline.dropped_frames + len(taken.pts_ns) == number
