"""What each `encoder_speed` and `video_codec` costs and is worth: CPU milliseconds a picture, and PSNR.

    python -m bench.speeds [speeds|codecs]

1280x720 from FFmpeg's own sources: a zoom into a fractal (textures and motion), a test pattern with a counter
and noise (text and edges), and colour bars with the noise of a camera (calm). Speeds are of H.264 at a steady
rate, codecs as files have them: below a ceiling.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import av
import msgspec
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
# Without VP8, whose colours have another matrix.
DECODER = {
    VideoCodec.H264: "h264",
    VideoCodec.H265: "hevc",
    VideoCodec.VP9: "vp9",
    VideoCodec.AV1: "libdav1d",
}


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


def measured(
    frames: list[VideoFrame], encoding: VideoEncoding, *, steady: bool
) -> tuple[float, float, float]:
    """CPU milliseconds a picture, kbit/s, and PSNR of luma in dB."""
    encoder = VideoEncoder(encoding, steady=steady)
    packets, began_s = [], time.process_time()
    for number, frame in enumerate(frames):
        packets += encoder.encode(frame, number * S // FPS)
    packets += encoder.flush()
    spent_s = time.process_time() - began_s
    decoder = av.CodecContext.create(DECODER[encoding.codec], "r")
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


def row(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def table(names: Sequence[str], encodings: Sequence[VideoEncoding], *, steady: bool) -> None:
    row("content", *names, "ms a picture", "kbit/s", "PSNR dB")
    row(*["---"] * (len(names) + 4))
    for name, (kbps, filters) in CONTENT.items():
        frames = list(pictures(filters))
        for each in encodings:
            encoding = msgspec.structs.replace(each, kbps=kbps)
            took, rate, psnr = min(measured(frames, encoding, steady=steady) for _ in range(PASSES))
            told = {"codec": each.codec.value, "encoder_speed": each.speed.value}
            row(name, *(told[key] for key in names), f"{took:.1f}", f"{rate:.0f}", f"{psnr:.1f}")


def main(which: str) -> None:
    usual = VideoEncoding(1280, 720, FPS, 0, 4.0)
    speeds = [msgspec.structs.replace(usual, speed=speed) for speed in reversed(EncoderSpeed)]
    if which in ("", "speeds"):
        table(["encoder_speed"], speeds, steady=True)
    if which in ("", "codecs"):
        every = [msgspec.structs.replace(each, codec=codec) for codec in DECODER for each in speeds]
        table(["codec", "encoder_speed"], every, steady=False)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
