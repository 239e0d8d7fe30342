"""What one egress costs, by what it encodes: pure arithmetic on its plan."""

from collections.abc import Iterable

from openegress.core.codecs import EncoderSpeed, VideoCodec
from openegress.core.plan import ImageOutput, Output, Plan
from openegress.worker.admission import Cost

PIXELS_720P = 1280 * 720
RATE_720P30 = PIXELS_720P * 30
"""Pixels a second that our own estimates were measured at."""
RATE_1080P60 = 1920 * 1080 * 60
"""The largest of the API's presets, which a configured cost is for."""

SHARE_AT = {EncoderSpeed.ULTRAFAST: 0.75, EncoderSpeed.SUPERFAST: 0.85, EncoderSpeed.VERYFAST: 1.0}
"""Of our own estimates, which are of calm pictures: encoding is a third of them."""

SHARE_OF = {
    VideoCodec.H264: 1.0,
    VideoCodec.VP8: 1.0,
    VideoCodec.VP9: 1.1,
    VideoCodec.AV1: 1.3,
    VideoCodec.H265: 1.4,
}
"""Of all estimates, which are of H.264: that third takes so much longer (bench.speeds)."""

FRAMES_HELD = 24
"""By the encoder, its lookahead and what waits before it: an estimate, as the base is measured at 720p."""
FRAME_BYTES_PER_PIXEL = 1.5

OTHER_BYTES_PER_PIXEL = 45
"""More than x264 and VP8's encoder take, of the others: 40 MiB at 720p (measured)."""

IMAGE_CORE_S_PER_PIXEL = 20e-9
"""Of one picture: a noisy one of 720p takes 10 ms to compress (measured), scaling and storing it as long."""
IMAGE_BYTES = 4 * 1024 * 1024
"""Beside its frames: queue, uploader and connection of an output."""
IMAGE_FRAMES_HELD = 3


def of_plan(base: Cost, plan: Plan) -> Cost:
    """The cost of an egress whose kind costs `base` at the rate that was taken for."""
    cores, memory_bytes = base.cores, float(base.memory_bytes)
    if plan.video is not None:
        pixels = plan.video.width * plan.video.height
        cores *= max(1.0, pixels * plan.video.framerate / base.pixels_per_s)
        cores *= SHARE_OF[plan.video.codec]
        if base.pixels_per_s == RATE_720P30:
            cores *= SHARE_AT[plan.video.speed]
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
