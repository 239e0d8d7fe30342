"""Encodes one picture into one access unit at once, for participants whose every picture must arrive."""

import os
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": (
        "libx264",
        {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "keyint=600:bframes=0"},
    ),
    "h265": (
        "libx265",
        {
            "preset": "ultrafast",
            "tune": "zerolatency",
            # A key frame requested soon after another one is a key frame all the same, and IDR.
            "x265-params": "keyint=600:min-keyint=1:open-gop=0:bframes=0:repeat-headers=1:log-level=none:"
            "pools=none:frame-threads=1",
        },
    ),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "600"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "600"}),
    "av1": (
        "libsvtav1",
        # Constant quality: at a constant rate it skips changes as small as a cell of the counter.
        {"preset": "9", "crf": "24", "svtav1-params": "pred-struct=1:lp=1:lookahead=0:keyint=600"},
    ),
}


@dataclass(frozen=True, slots=True)
class Unit:
    data: bytes = field(repr=False)
    is_key: bool
    pts: int = 0
    """As given to the encoder."""


class LiveEncoder:
    """No look-ahead, no B-frames, headers in band with every key frame."""

    def __init__(self, codec: str, width: int, height: int, fps: int, kbps: int) -> None:
        name, options = _ENCODERS[codec]
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = Fraction(1, fps)
        context.framerate = Fraction(fps)
        if codec != "av1":
            context.bit_rate = kbps * 1000
        context.thread_count = 1
        context.options = options
        # As root, SVT-AV1 puts the thread that opens it under SCHED_FIFO 99, and so every process that it
        # starts from then on: a browser that spins there stops the machine.
        policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
        context.open()
        os.sched_setscheduler(0, policy, parameters)
        self._context = context
        self._shape = (height * 3 // 2, width)

    def encode(self, i420: bytearray, pts: int, *, force_key: bool = False) -> Unit:
        """Raises RuntimeError if the encoder keeps the picture back: it was configured with a delay."""
        frame = av.VideoFrame.from_ndarray(np.frombuffer(i420, np.uint8).reshape(self._shape), "yuv420p")
        frame.pts = pts
        if force_key:
            frame.pict_type = PictureType.I
        packets = self._context.encode(frame)
        if len(packets) != 1:
            raise RuntimeError(f"{self._context.name} gave {len(packets)} packets for one picture")
        return Unit(bytes(packets[0]), packets[0].is_keyframe)


class ReorderingEncoder:
    """H264 with B-frames, as OBS and GStreamer send it over WHIP: units in the order of decoding."""

    def __init__(self, width: int, height: int, fps: int, kbps: int, b_frames: int) -> None:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = Fraction(1, fps)
        context.framerate = Fraction(fps)
        context.bit_rate = kbps * 1000
        context.thread_count = 1
        # b-adapt=0: by its own choice x264 uses none in pictures as still as the pattern's.
        parameters = f"keyint=600:bframes={b_frames}:b-adapt=0:b-pyramid=normal:rc-lookahead=0:scenecut=0"
        context.options = {"preset": "ultrafast", "forced-idr": "1", "x264-params": parameters}
        context.open()
        self._context = context
        self._shape = (height * 3 // 2, width)

    def encode(self, i420: bytearray, pts: int, *, force_key: bool = False) -> list[Unit]:
        """The units that are ready now, each with its own `pts`."""
        frame = av.VideoFrame.from_ndarray(np.frombuffer(i420, np.uint8).reshape(self._shape), "yuv420p")
        frame.pts = pts
        if force_key:
            frame.pict_type = PictureType.I
        packets = self._context.encode(frame)
        return [Unit(bytes(each), each.is_keyframe, each.pts or 0) for each in packets]
