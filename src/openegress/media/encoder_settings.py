"""Chooses settings that make each of FFmpeg's video encoders suit a recorder.

All encoders hold back few pictures, do not reorder, make a key frame only on request, and spend less than the
bit rate on calm pictures.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from openegress.core.codecs import EncoderSpeed, VideoCodec
from openegress.core.errors import internal
from openegress.core.plan import VideoEncoding

BT709, BT601 = 1, 5
"""FFmpeg's numbers of matrices, primaries and transfers (H.273)."""

_NEVER = "100000"
"""Key frame interval that is never reached, so that key frames come only on request."""
_PIXELS_OF_ONE_THREAD = 1280 * 720 * 30
"""Pixels a second that one thread encodes: x264 takes 15 ms for a hard picture of 720p."""

_CRF = 19
"""Constant quality under a ceiling: calm pictures take less than the requested rate, busy ones all of it."""
_VP8_CRF = 10
_HEVC_CRF = 22
_VP9_CRF = 24
"""The same for VP8, HEVC and VP9."""
_AV1_LEAST_QP = 24
"""Lowest quantiser, of 63: calm pictures get 48 dB, where H.264's get 49."""

_LOOKAHEAD = 5
"""Pictures of look-ahead, half of veryfast's. This costs 0.4 dB at the same rate, but live streams are a
sixth of a second closer to live, a recording ends sooner, and the encoder saves a twentieth of the work."""
_FAST_LOOKAHEAD = 30
"""The look-ahead of the preset fast. With a third of it, fast would lose 0.3 dB."""
_FULL_LOOKAHEAD_FPS = 24
"""Frame rate below which look-ahead is shorter: what waits in the encoder is lost with a kill, and delays
live streams."""
_X264: dict[EncoderSpeed, tuple[dict[str, str], int]] = {
    EncoderSpeed.ULTRAFAST: ({"preset": "ultrafast"}, 0),
    EncoderSpeed.SUPERFAST: ({"preset": "superfast"}, 0),
    EncoderSpeed.VERYFAST: ({"preset": "veryfast"}, _LOOKAHEAD),
    EncoderSpeed.FAST: ({"preset": "fast", "chromaoffset": "2"}, _FAST_LOOKAHEAD),
}
"""Options and look-ahead of x264, by speed."""
_X264_ADAPTING = {"coder": "1", "8x8dct": "1", "weightp": "1", "refs": "1"}
"""Options that ultrafast turns off or fast raises, and that other speeds name in their parameter sets.
Baseline and main turn off what they lack. At fast, x264 subtracts 2 from the chroma offset; FAST above adds
it back."""
_VP8_SPEEDS = {
    EncoderSpeed.ULTRAFAST: -16,
    EncoderSpeed.SUPERFAST: -10,
    EncoderSpeed.VERYFAST: -6,
    EncoderSpeed.FAST: -4,
}
"""Fixed speeds, as browsers use for calls: -6 takes two thirds of x264's time for the same picture at the
same rate (measured). A positive number would let libvpx choose by the clock."""
_VP9_SPEEDS = {
    EncoderSpeed.ULTRAFAST: 8,
    EncoderSpeed.SUPERFAST: 8,
    EncoderSpeed.VERYFAST: 7,
    EncoderSpeed.FAST: 6,
}
"""Speeds of VP9. FFmpeg accepts nothing higher than 8."""
_AV1_PRESETS = {
    EncoderSpeed.ULTRAFAST: 10,
    EncoderSpeed.SUPERFAST: 10,
    EncoderSpeed.VERYFAST: 9,
    EncoderSpeed.FAST: 8,
}
"""Presets of AV1. From 11 on, every other picture lacks small changes such as a counter; at 10, one in twenty
does."""
_LARGE_BLOCKS = 64
"""The shortest side with room for the largest blocks of HEVC."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    name: str
    """FFmpeg's name of the encoder."""
    host: str
    """A container that accepts the encoder's packets."""
    options: dict[str, object]
    matrix: int = BT709


def settings_of(encoding: VideoEncoding, *, steady: bool) -> EncoderSettings:
    """Chooses the settings. `steady`: hold the rate, which only H.264 is asked for."""
    match encoding.codec:
        case VideoCodec.H264:
            return EncoderSettings("libx264", "mp4", _x264(encoding, steady))
        case VideoCodec.VP8 if not steady:
            return EncoderSettings("libvpx", "webm", _vp8(encoding), BT601)
        case VideoCodec.H265 if not steady:
            return EncoderSettings("libx265", "mp4", _x265(encoding))
        case VideoCodec.VP9 if not steady:
            return EncoderSettings("libvpx-vp9", "webm", _vp9(encoding))
        case VideoCodec.AV1 if not steady:
            return EncoderSettings("libsvtav1", "mp4", _av1(encoding))
        case _:
            raise internal(f"no encoder for {encoding.codec.value} at a steady rate")


@contextmanager
def kept_schedule() -> Iterator[None]:
    """Restores the scheduling policy of threads after SVT-AV1 has opened. As root, SVT-AV1 puts the thread
    that opens it, and the threads it starts, under SCHED_FIFO 99: ahead of everything else on the machine. In
    a handler's cage it cannot."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = _threads_of_process()
    try:
        yield
    finally:
        for thread in (0, *(_threads_of_process() - before)):
            with suppress(OSError):  # the thread has ended
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _threads_of_process() -> set[int]:
    return {int(each.name) for each in Path("/proc/self/task").iterdir()}


def _threads(encoding: VideoEncoding) -> str:
    pixels_per_s = encoding.width * encoding.height * encoding.framerate
    return "1" if pixels_per_s <= _PIXELS_OF_ONE_THREAD else "2"


def _lookahead(pictures: int, framerate: int) -> str:
    return str(min(pictures, math.ceil(pictures * framerate / _FULL_LOOKAHEAD_FPS)))


def _x264(encoding: VideoEncoding, steady: bool) -> dict[str, object]:
    """Settings of x264, with one thread up to 720p30 and two above.

    There are no B-frames, as in livekit/egress: they take a quarter to a third more time for at most 2 dB on
    hard pictures and next to nothing on calls, and delay live streams by two frames.
    """
    preset, lookahead = _X264[encoding.speed]
    options: dict[str, object] = {
        **preset,
        "rc-lookahead": _lookahead(lookahead, encoding.framerate),
        **(_X264_ADAPTING if encoding.adapts else {}),
        "profile": encoding.profile.value,
        "threads": _threads(encoding),
        "bf": "0",
        "sc_threshold": "0",
        "forced-idr": "1",
        "g": _NEVER,
        "maxrate": f"{encoding.kbps}k",
        "bufsize": f"{encoding.kbps * (1 if steady else 2)}k",
    }
    if steady:
        options["b"] = f"{encoding.kbps}k"
    else:
        options["crf"] = str(_CRF)
    return options


def _x265(encoding: VideoEncoding) -> dict[str, object]:
    """Settings of x265 at its quickest speed, which takes twice the time of x264's veryfast. There is no
    thread pool where one thread is enough, because x265 starts a thread for each core of the machine."""
    threads = _threads(encoding)
    pools = "none" if threads == "1" else threads
    lookahead = _lookahead(_LOOKAHEAD, encoding.framerate)
    blocks = ":ctu=16" if min(encoding.width, encoding.height) < _LARGE_BLOCKS else ""
    return {
        "preset": "ultrafast",
        "forced-idr": "1",
        "g": _NEVER,
        "crf": str(_HEVC_CRF),
        "maxrate": f"{encoding.kbps}k",
        "bufsize": f"{encoding.kbps * 2}k",
        "x265-params": f"bframes=0:scenecut=0:open-gop=0:rc-lookahead={lookahead}:log-level=none:"
        f"frame-threads=1:pools={pools}{blocks}",
    }


def _vp8(encoding: VideoEncoding) -> dict[str, object]:
    """Settings of libvpx as in a call."""
    return {
        **_libvpx(encoding),
        "cpu-used": str(_VP8_SPEEDS[encoding.speed]),
        "crf": str(_VP8_CRF),
    }


def _vp9(encoding: VideoEncoding) -> dict[str, object]:
    return {
        **_libvpx(encoding),
        "cpu-used": str(_VP9_SPEEDS[encoding.speed]),
        "crf": str(_VP9_CRF),
        "row-mt": "1",
        "tile-columns": "0" if _threads(encoding) == "1" else "1",
    }


def _libvpx(encoding: VideoEncoding) -> dict[str, object]:
    return {
        "deadline": "realtime",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "threads": _threads(encoding),
        "g": _NEVER,
        "keyint_min": _NEVER,
        "b": f"{encoding.kbps}k",
    }


def _av1(encoding: VideoEncoding) -> dict[str, object]:
    """Settings of SVT-AV1. Low delay has no ceiling at constant quality, so the rate is held and the quality
    capped. `lp`: how far SVT-AV1 spreads out; it starts about a dozen threads at least."""
    threads = _threads(encoding)
    return {
        "preset": str(_AV1_PRESETS[encoding.speed]),
        "b": f"{encoding.kbps}k",
        "svtav1-params": f"pred-struct=1:lp={threads}:scd=0:keyint=-1:rc=2:min-qp={_AV1_LEAST_QP}",
    }
