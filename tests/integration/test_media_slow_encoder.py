"""An encoder that is too slow for a while gets half the pictures, evenly, and all of them afterwards."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable

import av
import pytest

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.errors import EgressError
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import Packet, overload
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
        self._kinds: list[MediaKind] = []

    def write(self, packet: Packet) -> None:
        self.pts_ns.append(packet.pts_ns)
        self._kinds.append(packet.kind)

    def count(self, kind: MediaKind) -> int:
        return self._kinds.count(kind)


def slow_down(monkeypatch: pytest.MonkeyPatch, by_s: float, when: Callable[[], bool] = lambda: True) -> None:
    """Each picture takes so much longer to encode."""
    encode = VideoEncoder.encode

    def encode_slowly(encoder: VideoEncoder, frame: av.VideoFrame, pts_ns: int) -> list[Packet]:
        if when():
            time.sleep(by_s)
        return encode(encoder, frame, pts_ns)

    monkeypatch.setattr(VideoEncoder, "encode", encode_slowly)


async def test_half_the_rate_while_the_encoder_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "WINDOW_S", 0.2)
    monkeypatch.setattr(overload, "PRESSED_WINDOWS", 2)
    monkeypatch.setattr(overload, "CALM_S", 1.0)
    slow = threading.Event()
    slow.set()
    slow_down(monkeypatch, SLOW_S, slow.is_set)
    encoding = VideoEncoding(64, 64, FPS, kbps=100, key_frame_interval_s=4.0)
    errors: list[EgressError] = []
    pipeline = EncodePipeline(encoding, None, steady=False, on_error=errors.append)
    taken = Taken()
    pipeline.attach([taken], [])
    pipeline.start()
    assert pipeline._queue.overload is not None
    begun_s, number = time.monotonic(), 0

    async def feed_until(rate: Rate) -> int:
        nonlocal number
        async with asyncio.timeout(20):
            while pipeline._queue.overload is not None and pipeline._queue.overload.rate is not rate:
                frame = av.VideoFrame(64, 64, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([number % 256]) * plane.buffer_size)
                pipeline.video(frame, number * S // FPS)
                number += 1
                await asyncio.sleep(max(0.0, begun_s + number / FPS - time.monotonic()))
        return number * S // FPS

    halved_ns = await feed_until(Rate.HALF)
    slow.clear()
    restored_ns = await feed_until(Rate.FULL)
    await pipeline.finish()
    assert errors == []
    between = [pts for pts in taken.pts_ns if halved_ns + S // 3 < pts < restored_ns]
    steps = {round((b - a) * FPS / S) for a, b in itertools.pairwise(between)}
    assert min(steps) == 2
    assert pipeline.dropped_frames + len(taken.pts_ns) == number


@pytest.mark.parametrize("fps", [5, 30])
async def test_what_waits_for_a_slow_encoder_in_the_end_is_left_out_but_for_sound(
    monkeypatch: pytest.MonkeyPatch, fps: int
) -> None:
    """Whoever stops a recording waits for it; nothing of its sound is given up for that."""
    slow_down(monkeypatch, 0.3)
    errors: list[EgressError] = []
    pipeline = EncodePipeline(
        VideoEncoding(64, 64, fps, kbps=100, key_frame_interval_s=4.0),
        AudioEncoding(AudioCodec.OPUS, 64, 48_000),
        steady=False,
        on_error=errors.append,
        hold_s=1.0,
        now_ns=lambda: round((time.monotonic() - begun_s) * S),
    )
    taken = Taken()
    pipeline.attach([taken], [])
    begun_s, seconds = time.monotonic(), 2
    pipeline.start()

    def feed() -> None:
        for number in range(seconds * fps):
            pts_ns = number * S // fps
            pipeline.audio(bytes(4 * 48_000 // fps), pts_ns, 48_000)
            pipeline.video(av.VideoFrame(64, 64, "yuv420p"), pts_ns)
            time.sleep(max(0.0, begun_s + (number + 1) / fps - time.monotonic()))

    await asyncio.to_thread(feed)
    fed_s = time.monotonic() - begun_s
    assert fed_s < seconds + 1.6, "held back by less than what the source may be behind, and a picture"
    closed_s = time.monotonic()
    await pipeline.finish()
    assert time.monotonic() - closed_s < 1.2
    assert errors == []
    pictures = taken.count(MediaKind.VIDEO)
    assert pipeline.dropped_frames + pictures == seconds * fps
    assert taken.count(MediaKind.AUDIO) == pytest.approx(seconds * 50, abs=2)


class Lateness:
    """A sink that remembers by how much each packet of sound came later than it was fed."""

    def __init__(self, begun_s: float) -> None:
        self._begun_s = begun_s
        self.sound_s: list[float] = []
        self.pictures = 0

    def write(self, packet: Packet) -> None:
        if packet.kind is MediaKind.VIDEO:
            self.pictures += 1
        else:
            self.sound_s.append(time.monotonic() - self._begun_s - packet.pts_ns / S)


@pytest.mark.parametrize("hold_s", [0.0, 1.0])
async def test_sound_does_not_wait_behind_pictures_that_take_long(
    monkeypatch: pytest.MonkeyPatch, hold_s: float
) -> None:
    """From the first picture that is too slow, not only once that has been noticed for seconds."""
    slow_down(monkeypatch, 0.25)
    errors: list[EgressError] = []
    pipeline = EncodePipeline(
        VideoEncoding(64, 64, FPS, kbps=100, key_frame_interval_s=4.0),
        AudioEncoding(AudioCodec.OPUS, 64, 48_000),
        steady=False,
        on_error=errors.append,
        hold_s=hold_s,
        now_ns=lambda: round((time.monotonic() - begun_s) * S),
    )
    begun_s, seconds = time.monotonic(), 3
    taken = Lateness(begun_s)
    pipeline.attach([taken], [])
    pipeline.start()

    def feed() -> None:
        for number in range(seconds * FPS):
            pts_ns = number * S // FPS
            pipeline.audio(bytes(4 * 48_000 // FPS), pts_ns, 48_000)
            pipeline.video(av.VideoFrame(64, 64, "yuv420p"), pts_ns)
            time.sleep(max(0.0, begun_s + (number + 1) / FPS - time.monotonic()))

    await asyncio.to_thread(feed)
    pipeline.expect_end()
    await pipeline.finish()
    assert errors == []
    assert max(taken.sound_s) < 1.0
    assert len(taken.sound_s) == pytest.approx(seconds * 50, abs=2)
    assert taken.pictures > 6
    assert pipeline.dropped_frames + taken.pictures == seconds * FPS


async def test_the_end_does_not_wait_for_what_a_slow_encoder_holds_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """x264 looks ahead: it holds pictures that take as long to encode at the end as they do before."""
    until: list[float] = []
    flush = VideoEncoder.flush

    def flush_too_late(encoder: VideoEncoder, until_s: float) -> list[Packet]:
        until.append(until_s - time.monotonic())
        assert encoder.inside > 3
        return flush(encoder, time.monotonic())

    monkeypatch.setattr(VideoEncoder, "flush", flush_too_late)
    encoding = VideoEncoding(64, 64, FPS, kbps=100, key_frame_interval_s=4.0)
    pipeline = EncodePipeline(encoding, None, steady=False, on_error=lambda _: None, hold_s=1.0)
    taken = Taken()
    pipeline.attach([taken], [])
    pipeline.start()
    for number in range(12):
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([number % 256]) * plane.buffer_size)
        pipeline.video(frame, number * S // FPS)
    await pipeline.finish()
    assert 0 < until[0] < 1.0
    assert pipeline.dropped_frames > 2
    assert pipeline.dropped_frames + len(taken.pts_ns) == 12
