"""Counts pictures that are dropped while other processes want the machine, by `encoder_speed`, including
auto.

python -m bench.headroom [spinners] [seconds]

Busy pictures of 1280x720 come thirty times a second to an encoder of each speed, all at once, each in a
process of its own. As many processes as given spin beside them: all have the same share of the machine.
"""

import asyncio
import subprocess
import sys
import time

import av

from bench.speeds import CONTENT, FPS, pictures
from openegress.core.codecs import EncoderSpeed
from openegress.core.errors import EgressError
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.pipeline import EncodePipeline

SIZE = (1280, 720)
SPIN = "while True: pass"
READY_S = 12.0
"""Until all have drawn their pictures."""


class Counted:
    """Counts the packets."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, packet: Packet) -> None:
        self.size_bytes += len(packet.data)


def _fail(error: EgressError) -> None:
    raise error


async def left_out(encoding: VideoEncoding, frames: list[av.VideoFrame], seconds: int) -> tuple[int, str]:
    """Runs in real time; also returns the speeds at which it was encoded."""
    pipeline, sink = EncodePipeline(encoding, None, steady=False, on_error=_fail), Counted()
    pipeline.attach([sink], [])
    pipeline.start()
    began_s = time.monotonic()
    for number in range(seconds * FPS):
        await asyncio.sleep(max(0.0, began_s + number / FPS - time.monotonic()))
        source = frames[number % len(frames)]
        frame = av.VideoFrame(*SIZE, "yuv420p")
        for plane, data in zip(frame.planes, source.planes, strict=True):
            plane.update(bytes(data))
        pipeline.video(frame, number * S // FPS)
    await pipeline.finish()
    spans = ", ".join(f"{each.ms / 1000:.0f} s {each.speed}" for each in pipeline.quicker)
    return pipeline.dropped_frames, spans


def one(name: str, seconds: int) -> None:
    kbps, filters = CONTENT["pattern"]
    frames = list(pictures(filters))
    is_auto = name == "auto"
    speed = EncoderSpeed.VERYFAST if is_auto else EncoderSpeed(name)
    encoding = VideoEncoding(*SIZE, FPS, kbps, 4.0, speed=speed, adapts=is_auto)
    sys.stdin.read()  # until all are ready
    lost, spans = asyncio.run(left_out(encoding, frames, seconds))
    sys.stdout.write(f"| {name} | {seconds * FPS} | {lost} | {spans} |\n")


def main(spinners: int, seconds: int) -> None:
    sys.stdout.write("| encoder_speed | pictures | left out | quicker |\n|---|---|---|---|\n")
    sys.stdout.flush()
    beside = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(spinners)]
    try:
        each = [sys.executable, "-m", "bench.headroom"]
        children = [
            subprocess.Popen([*each, name, str(seconds)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for name in ("veryfast", "superfast", "ultrafast", "auto")
        ]
        time.sleep(READY_S)
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        for child in children:
            child.wait()
    finally:
        for process in beside:
            process.kill()
            process.wait()


if __name__ == "__main__":
    first, second = [*sys.argv[1:], *("2", "30")[len(sys.argv) - 1 :]]
    if first.isdigit():
        main(int(first), int(second))
    else:
        one(first, int(second))
