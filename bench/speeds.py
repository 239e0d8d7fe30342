"""What each `encoder_speed` costs and is worth: CPU milliseconds a picture, and PSNR at the same rate.

    python -m bench.speeds

H.264 of 1280x720 at a steady rate, from FFmpeg's own sources: a zoom into a fractal (textures and motion), a
test pattern with a counter and noise (text and edges), and colour bars with the noise of a camera (calm).
"""

import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from openegress.core.codecs import EncoderSpeed, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media.canvas import planes
from openegress.media.encoder import VideoEncoder

FPS, FRAMES, PASSES = 30, 90, 3
SIZE = "size=1280x720:rate=30"
CONTENT: dict[str, tuple[int, tuple[tuple[str, str], ...]]] = {
    "fractal": (2000, (("mandelbrot", f"{SIZE}:start_scale=0.5:end_scale=0.05:end_pts=300"),)),
    "pattern": (2000, (("testsrc2", SIZE), ("noise", "alls=4:allf=t"))),
    "calm": (1000, (("smptehdbars", SIZE), ("noise", "alls=2:allf=t"))),
}
"""kbit/s, and filters."""


def pictures(filters: tuple[tuple[str, str], ...]) -> Iterator[VideoFrame]:
    graph = Graph()
    graph.threads = 1
    nodes = [graph.add(*each) for each in (*filters, ("format", "yuv420p"), ("buffersink", ""))]
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    for _ in range(FRAMES):
        frame = graph.pull()
        assert isinstance(frame, VideoFrame)
        yield frame


def measured(frames: list[VideoFrame], speed: EncoderSpeed, kbps: int) -> tuple[float, float, float]:
    """CPU milliseconds a picture, kbit/s, and PSNR of luma in dB."""
    encoding = VideoEncoding(1280, 720, FPS, kbps, 4.0, VideoCodec.H264, speed=speed)
    encoder = VideoEncoder(encoding, steady=True)
    packets, began_s = [], time.process_time()
    for number, frame in enumerate(frames):
        packets += encoder.encode(frame, number * S // FPS)
    packets += encoder.flush()
    spent_s = time.process_time() - began_s
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext) and encoder.format.template is not None
    decoder.extradata, decoder.thread_count = encoder.format.template.codec_context.extradata, 1
    shown = [frame for packet in packets for frame in decoder.decode(av.Packet(packet.data))]
    shown += decoder.decode(None)
    errors = [
        float(np.mean(np.square(planes(given)[0].astype(np.int32) - planes(got)[0])))
        for given, got in zip(frames, shown, strict=True)
    ]
    rate = sum(len(packet.data) for packet in packets) * 8 * Fraction(FPS, len(frames)) / 1000
    return spent_s * 1000 / len(frames), float(rate), float(10 * np.log10(255**2 / np.mean(errors)))


def main() -> None:
    sys.stdout.write("| content | encoder_speed | ms a picture | kbit/s | PSNR dB |\n|---|---|---|---|---|\n")
    for name, (kbps, filters) in CONTENT.items():
        frames = list(pictures(filters))
        for speed in reversed(EncoderSpeed):
            took, rate, psnr = min(measured(frames, speed, kbps) for _ in range(PASSES))
            sys.stdout.write(f"| {name} | {speed.value} | {took:.1f} | {rate:.0f} | {psnr:.1f} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
