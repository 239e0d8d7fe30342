"""Joins the RTP payloads of one frame to an access unit, codec by codec. Pure.

Each codec's module has one function from the payloads of a frame, in order and complete, to an AccessUnit.
Anything that does not follow the payload format raises MalformedPayload.
"""

from collections.abc import Callable, Sequence
from functools import partial

from openegress.core.codecs import VideoCodec
from openegress.room.rtp.depacketise import av1, h264, h265, vp8, vp9
from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload, UnitKind

__all__ = ["AccessUnit", "MalformedPayload", "UnitKind", "join_video", "join_vp9"]

JOIN: dict[VideoCodec, Callable[[Sequence[bytes]], AccessUnit]] = {
    VideoCodec.H264: h264.join,
    VideoCodec.H265: h265.join,
    VideoCodec.VP8: vp8.join,
    VideoCodec.VP9: vp9.join,
    VideoCodec.AV1: av1.join,
}


def join_video(codec: VideoCodec, payloads: Sequence[bytes]) -> AccessUnit:
    """Joins the payloads of a frame. Raises MalformedPayload."""
    return _joined(codec, JOIN[codec], payloads)


def join_vp9(payloads: Sequence[bytes], opened: Callable[[bytes], bytes]) -> AccessUnit:
    """See vp9.join. Raises MalformedPayload, and what `opened` raises."""
    return _joined(VideoCodec.VP9, partial(vp9.join, opened=opened), payloads)


def _joined(
    codec: VideoCodec, join: Callable[[Sequence[bytes]], AccessUnit], payloads: Sequence[bytes]
) -> AccessUnit:
    try:
        return join(payloads)
    except IndexError as error:
        raise MalformedPayload(f"a {codec} payload ends too early") from error
