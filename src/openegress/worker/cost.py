"""Estimates the cores and memory that one egress needs, from its plan. Pure."""

from collections.abc import Iterable

from openegress.core.codecs import EncoderSpeed, VideoCodec
from openegress.core.plan import ImageOutput, Output, Plan
from openegress.worker.admission import Cost

PIXELS_720P = 1280 * 720
RATE_720P30 = PIXELS_720P * 30
"""The pixel rate at which our own estimates were measured."""
RATE_1080P60 = 1920 * 1080 * 60
"""The pixel rate of the largest preset of the API. A configured cost holds up to this rate."""

SPEED_FACTORS = {
    EncoderSpeed.ULTRAFAST: 0.75,
    EncoderSpeed.SUPERFAST: 0.85,
    EncoderSpeed.VERYFAST: 1.0,
    EncoderSpeed.FAST: 1.3,
}
"""Factors on our own estimates, which assume calm pictures: encoding is a third of their cost."""

CODEC_FACTORS = {
    VideoCodec.H264: 1.0,
    VideoCodec.VP8: 1.0,
    VideoCodec.VP9: 1.1,
    VideoCodec.AV1: 1.3,
    VideoCodec.H265: 1.4,
}
"""Estimates assume H.264; with other codecs, that third takes longer by these factors (bench.speeds)."""

FRAMES_HELD = 24
"""Frames in the encoder, its lookahead and the queue before it. An estimate, as the base is measured at
720p."""
FRAME_BYTES_PER_PIXEL = 1.5

OTHER_BYTES_PER_PIXEL = 45
"""Memory that other encoders take in addition to that of x264 and VP8: 40 MiB at 720p (measured)."""

IMAGE_CORE_S_PER_PIXEL = 20e-9
"""Core seconds for one pixel of an image. A noisy 720p picture takes 10 ms to compress (measured), and as
long to scale and store."""
IMAGE_BYTES = 4 * 1024 * 1024
"""Memory of an image output besides its frames: queue, uploader and connection."""
IMAGE_FRAMES_HELD = 3


def of_plan(base: Cost, plan: Plan) -> Cost:
    """The cost of an egress; `base` is the cost of its kind, up to `base.pixels_per_s`."""
    cores, memory_bytes = base.cores, float(base.memory_bytes)
    if plan.video is not None:
        pixels = plan.video.width * plan.video.height
        cores *= max(1.0, pixels * plan.video.framerate / base.pixels_per_s)
        cores *= CODEC_FACTORS[plan.video.codec]
        if base.pixels_per_s == RATE_720P30:
            cores *= SPEED_FACTORS[plan.video.speed]
        memory_bytes += max(0, pixels - PIXELS_720P) * FRAME_BYTES_PER_PIXEL * FRAMES_HELD
        if plan.video.codec not in (VideoCodec.H264, VideoCodec.VP8):
            memory_bytes += pixels * OTHER_BYTES_PER_PIXEL
    for output in _images(plan.outputs):
        pixels = (output.width * output.height) or _pixels(plan)
        cores += IMAGE_CORE_S_PER_PIXEL * pixels / output.interval_s
        memory_bytes += IMAGE_BYTES + pixels * FRAME_BYTES_PER_PIXEL * IMAGE_FRAMES_HELD
    return Cost(cores, int(memory_bytes), base.pixels_per_s)


def _images(outputs: Iterable[Output]) -> Iterable[ImageOutput]:
    return (output for output in outputs if isinstance(output, ImageOutput))


def _pixels(plan: Plan) -> int:
    return plan.video.width * plan.video.height if plan.video is not None else PIXELS_720P
