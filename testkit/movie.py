"""A video file of the test pattern, as a page plays it in `<video>`."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from testkit.pattern import BLOCK_MS, COLOURS, SAMPLE_RATE, Picture, PictureSpec, Sound

FPS = 30
WIDTH, HEIGHT = 640, 360
BEGIN_MS = 500
"""Offset into the pattern's second: a player shows the first picture before it plays, so it has no flash."""


def write_movie(path: Path, seconds: int) -> None:
    """VP8 and Opus in WebM. Flash and beep come together, first after half a second, then each second."""
    picture = Picture(PictureSpec(WIDTH, HEIGHT, FPS, COLOURS[0]))
    sound = Sound(300.0)
    with av.open(str(path), "w", format="webm") as container:
        video = container.add_stream("libvpx", rate=FPS, options={"deadline": "realtime", "cpu-used": "8"})
        audio = container.add_stream("libopus", rate=SAMPLE_RATE)
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
        audio.layout = "mono"
        for number in range(seconds * FPS):
            planes = np.frombuffer(picture.draw(number + BEGIN_MS * FPS // 1000), np.uint8)
            frame = av.VideoFrame.from_ndarray(planes.reshape(-1, WIDTH), "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        for number in range(seconds * 1000 // BLOCK_MS):
            samples = np.frombuffer(sound.block(number + BEGIN_MS // BLOCK_MS), np.int16).reshape(1, -1)
            block = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            block.sample_rate, block.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            block.pts = number * samples.shape[1]
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
