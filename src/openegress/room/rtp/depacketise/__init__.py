"""Joins the RTP payloads of one frame to an access unit, codec by codec. Pure.

Each codec's module has one function from the payloads of a frame, in order and complete, to an AccessUnit.
Anything that does not follow the payload format raises MalformedPayload.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from openegress.core.codecs import VideoCodec
from openegress.room.rtp.depacketise import av1, h264, h265, vp8, vp9
from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload, UnitKind

__all__ = ["AccessUnit", "MalformedPayload", "UnitKind", "has_end", "join_video", "join_vp9"]

T = TypeVar("T")

JOIN: dict[VideoCodec, Callable[[Sequence[bytes]], AccessUnit]] = {
    VideoCodec.H264: h264.join,
    VideoCodec.H265: h265.join,
    VideoCodec.VP8: vp8.join,
    VideoCodec.VP9: vp9.join,
    VideoCodec.AV1: av1.join,
}

HAS_END: dict[VideoCodec, Callable[[Sequence[bytes]], bool | None]] = {
    VideoCodec.VP8: vp8.has_end,
    VideoCodec.VP9: vp9.has_end,
    VideoCodec.AV1: av1.has_end,
}


def join_video(codec: VideoCodec, payloads: Sequence[bytes]) -> AccessUnit:
    """Joins the payloads of a frame. Raises MalformedPayload."""
    return _read(codec, JOIN[codec], payloads)


def join_vp9(payloads: Sequence[bytes], opened: Callable[[bytes], bytes]) -> AccessUnit:
    """See vp9.join. Raises MalformedPayload, and what `opened` raises."""
    return _read(VideoCodec.VP9, partial(vp9.join, opened=opened), payloads)


def has_end(codec: VideoCodec, payloads: Sequence[bytes]) -> bool | None:
    """Whether the first payloads of a frame are all of it; None: only the marker of the last packet tells.
    Raises MalformedPayload."""
    return _read(codec, HAS_END[codec], payloads) if codec in HAS_END else None


def _read(codec: VideoCodec, read: Callable[[Sequence[bytes]], T], payloads: Sequence[bytes]) -> T:
    try:
        return read(payloads)
    except IndexError as error:
        raise MalformedPayload(f"a {codec} payload ends too early") from error
