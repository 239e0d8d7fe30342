"""Measures a fixed piece of work on this machine, so that runs on different days can be compared."""

import time

import av

from openegress.core.plan import VideoEncoding
from openegress.media.encoder import VideoEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

FRAMES, FPS = 150, 30


def cores() -> float:
    """CPU seconds a second: our encoder alone, a calm 1280x720 picture at 30 frames a second."""
    picture = Picture(PictureSpec(1280, 720, FPS, COLOURS[0]))
    frames = []
    for number in range(FRAMES):
        frame = av.VideoFrame(1280, 720, "yuv420p")
        data, at = picture.draw(number), 0
        for plane in frame.planes:
            size = plane.width * plane.height
            rows = data[at : at + size]
            if plane.line_size == plane.width:
                plane.update(bytes(rows))
            else:
                padding = bytes(plane.line_size - plane.width)
                starts = range(0, size, plane.width)
                plane.update(b"".join(bytes(rows[row : row + plane.width]) + padding for row in starts))
            at += size
        frames.append(frame)
    encoder = VideoEncoder(VideoEncoding(1280, 720, FPS, 3000, 4.0), steady=False)
    began_s = time.process_time()
    for number, frame in enumerate(frames):
        encoder.encode(frame, number * 1_000_000_000 // FPS)
    encoder.flush()
    return (time.process_time() - began_s) * FPS / FRAMES
