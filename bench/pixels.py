"""What a picture of a room composite costs, stage by stage, without a room: CPU milliseconds a slot.

    python -m bench.pixels                        the rows
    python -m bench.pixels --only "2 tiles"       those whose name contains this
    python -m bench.pixels --frames 300 --once    one pass, for a profiler

Prepared VP8 is decoded, drawn into a grid and encoded, so that nothing waits for anything. Figures are CPU
time (user and system), the least of three passes. The encoder's output is compared with its input: PSNR of
luma, and the kbit/s it took. Busy pictures are blocks of 8 pixels that move by 8: unless they are scaled,
they are easier for an encoder than pictures of cameras.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace

import av
import numpy as np

from openegress.core.codecs import MediaKind, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media.canvas import Canvas, planes, yuv_of
from openegress.media.decoder import VideoDecoder
from openegress.media.encoder import VideoEncoder
from openegress.media.geometry import Fit
from openegress.room import Participant, Track, TrackSource
from openegress.room.budget import MAX_PIXELS
from openegress.source.room.composite.layout_policy import DARK
from openegress.source.room.composite.rectangles import Size, grid_rects
from openegress.source.room.scene import Tile
from openegress.source.room.tile_view import Picture, TileView
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Matrix, PictureSpec
from testkit.pattern import Picture as Pattern

FPS = 30
PASSES = 3
WARM_UP = 10
"""Slots before the measured ones: contexts are set up, and the encoder's look-ahead is filled."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    tiles: int
    canvas: Size
    sent: Size
    """The layer of each participant's pictures that a tile of this size gets."""
    busy: bool = False


HD = Size(1280, 720)
ROWS = (
    Row("720p, 1 tile, calm", 1, HD, HD),
    Row("720p, 2 tiles, calm", 2, HD, HD),
    Row("720p, 2 tiles, busy", 2, HD, HD, busy=True),
    Row("720p, 9 tiles of 720p", 9, HD, HD),
    Row("720p, 9 tiles of 360p", 9, HD, Size(640, 360)),
    Row("720p, 25 tiles of 180p", 25, HD, Size(320, 180)),
    Row("1080p, 2 tiles of 1080p", 2, Size(1920, 1080), Size(1920, 1080)),
    Row("portrait 720x1280, 2 tiles", 2, Size(720, 1280), HD),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU milliseconds a slot."""

    decode: float
    draw: float
    encode: float
    kbps: float
    psnr: float

    def least(self, other: "Cost") -> "Cost":
        return replace(
            self,
            decode=min(self.decode, other.decode),
            draw=min(self.draw, other.draw),
            encode=min(self.encode, other.encode),
        )


def sent(row: Row, number: int, frames: int) -> list[tuple[bytes, bool]]:
    """The pictures that a participant sends."""
    colour = COLOURS[number % len(COLOURS)]
    spec = PictureSpec(row.sent.width, row.sent.height, FPS, colour, busy=row.busy, matrix=Matrix.BT601)
    pattern, encoder = Pattern(spec), LiveEncoder("vp8", row.sent.width, row.sent.height, FPS, 2500)
    units = [encoder.encode(pattern.draw(frame + 7 * number), frame) for frame in range(frames)]
    return [(unit.data, unit.is_key) for unit in units]


def measured(row: Row, streams: list[list[tuple[bytes, bool]]]) -> Cost:
    width, height = row.canvas.width, row.canvas.height
    canvas = Canvas(width, height)
    canvas.fill(canvas.whole, yuv_of(*DARK.background))
    views, decoders = [], []
    for number, rect in enumerate(grid_rects(row.tiles, row.canvas)):
        person = Participant(f"PA_{number}", f"p{number}", f"P {number}", "standard")
        track = Track(
            f"TR_{number}", "c", MediaKind.VIDEO, TrackSource.CAMERA, "video/vp8", person, False,
            row.sent.width, row.sent.height,
        )  # fmt: skip
        view = TileView()
        view.place(Tile(track.sid, track, rect, Fit.COVER), rect, DARK, 0, cleared=True)
        views.append(view)
        decoders.append(VideoDecoder(VideoCodec.VP8, MAX_PIXELS))
    encoder = VideoEncoder(VideoEncoding(width, height, FPS, 3000, 4.0), steady=False)
    returned = av.CodecContext.create("h264", "r")
    returned.thread_count = 1
    assert encoder.format.template is not None
    returned.extradata = encoder.format.template.codec_context.extradata
    spent = dict.fromkeys(("decode", "draw", "encode"), 0)
    size, errors, given = 0, [], []
    frames = len(streams[0])
    for slot in range(frames):
        at_ns = slot * S // FPS
        times = [time.process_time_ns()]
        newest = []
        for number, decoder in enumerate(decoders):
            data, is_key = streams[number % len(streams)][slot]
            newest.append(decoder.decode(data, at_ns, is_key=is_key)[0])
        times.append(time.process_time_ns())
        for view, frame in zip(views, newest, strict=True):
            view.draw(canvas, at_ns, Picture(frame, at_ns))
        picture = canvas.picture()
        times.append(time.process_time_ns())
        packets = encoder.encode(picture, at_ns)
        times.append(time.process_time_ns())
        if slot >= WARM_UP:
            for name, before, after in zip(spent, times, times[1:], strict=False):
                spent[name] += after - before
            size += sum(len(packet.data) for packet in packets)
        given.append(planes(picture)[0])
        for packet in packets:
            for frame in returned.decode(av.Packet(packet.data)):
                luma = given.pop(0).astype(np.int16) - planes(frame)[0]
                errors.append(float(np.mean(luma * luma)))
    count = frames - WARM_UP
    per_slot = {name: value / count / 1e6 for name, value in spent.items()}
    psnr = 10 * np.log10(255 * 255 / max(float(np.mean(errors)), 1e-9))
    return Cost(**per_slot, kbps=size * 8 * FPS / count / 1000, psnr=float(psnr))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pixels")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--once", action="store_true", help="one pass")
    arguments = parser.parse_args()
    sys.stdout.write("| picture | decode ms | draw ms | encode ms | cores | kbit/s | PSNR dB |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for row in ROWS:
        if arguments.only not in row.name:
            continue
        streams = [sent(row, number, arguments.frames + WARM_UP) for number in range(min(row.tiles, 2))]
        cost = measured(row, streams)
        for _ in range(0 if arguments.once else PASSES - 1):
            cost = cost.least(measured(row, streams))
        cores = (cost.decode + cost.draw + cost.encode) * FPS / 1000
        sys.stdout.write(
            f"| {row.name} | {cost.decode:.2f} | {cost.draw:.2f} | {cost.encode:.2f} | {cores:.3f} "
            f"| {cost.kbps:.0f} | {cost.psnr:.2f} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
