"""RTP payloads of one frame joined to an access unit, codec by codec. Pure.

Each codec's module has one function from the payloads of a frame, in order and complete, to an
AccessUnit. Anything that does not follow the payload format raises MalformedPayload.
"""

from collections.abc import Callable, Sequence

from openegress.core.codecs import VideoCodec
from openegress.room.rtp.depacketise import av1, h264, h265, vp8, vp9
from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload

__all__ = ["AccessUnit", "MalformedPayload", "join_video"]

JOIN: dict[VideoCodec, Callable[[Sequence[bytes]], AccessUnit]] = {
    VideoCodec.H264: h264.join,
    VideoCodec.H265: h265.join,
    VideoCodec.VP8: vp8.join,
    VideoCodec.VP9: vp9.join,
    VideoCodec.AV1: av1.join,
}


def join_video(codec: VideoCodec, payloads: Sequence[bytes]) -> AccessUnit:
    """Raises MalformedPayload."""
    try:
        return JOIN[codec](payloads)
    except IndexError as error:
        raise MalformedPayload(f"a {codec} payload ends too early") from error
