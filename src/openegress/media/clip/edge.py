"""Encodes pictures again that depend on others outside the clip."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import av
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from openegress.core.annex_b import units
from openegress.core.codecs import MediaKind, VideoCodec
from openegress.core.errors import internal
from openegress.media import Packet
from openegress.media.clip import TICKS
from openegress.media.encoder_settings import kept_schedule

_DECODER: dict[VideoCodec, str] = {
    VideoCodec.H264: "h264",
    VideoCodec.H265: "hevc",
    VideoCodec.VP8: "vp8",
    VideoCodec.VP9: "vp9",
    VideoCodec.AV1: "libdav1d",
}
_ENCODER: dict[VideoCodec, str] = {
    VideoCodec.H264: "libx264",
    VideoCodec.H265: "libx265",
    VideoCodec.VP8: "libvpx",
    VideoCodec.VP9: "libvpx-vp9",
    VideoCodec.AV1: "libsvtav1",
}
_NO_REORDER: dict[VideoCodec, dict[str, str]] = {
    VideoCodec.H264: {
        "preset": "veryfast",
        "crf": "17",
        "bf": "0",
        "sc_threshold": "0",
        "forced-idr": "1",
        "x264-params": "repeat-headers=1",
    },
    VideoCodec.H265: {
        "preset": "ultrafast",
        "crf": "20",
        "forced-idr": "1",
        "x265-params": "bframes=0:repeat-headers=1:scenecut=0:keyint=-1:log-level=none:"
        "pools=none:frame-threads=1",
    },
    VideoCodec.VP8: {
        "deadline": "good",
        "cpu-used": "4",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "crf": "6",
        "b": "8M",
    },
    VideoCodec.VP9: {
        "deadline": "realtime",
        "cpu-used": "6",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "crf": "22",
        "b": "0",
    },
    VideoCodec.AV1: {
        "preset": "10",
        "crf": "14",
        "svtav1-params": "pred-struct=1:lp=1:scd=0:keyint=-1",
    },
}
"""Encoder settings of an edge: better than the recording's, because this is the second encoding."""
_PROFILES = {66: "baseline", 77: "main", 100: "high"}
"""x264's profile names, by profile_idc (H.264 A.2)."""
_RATE = 30


class Edge:
    """Encodes pictures of one codec. Confined to one thread."""

    def __init__(self, codec: VideoCodec) -> None:
        self._codec = codec

    def encoded(self, packets: Sequence[Packet], begin: int, end: int) -> list[Packet]:
        """Encodes the pictures shown from `begin` on and before `end`, in TICKS. `packets` begin with an
        independent key frame. Raises EgressError."""
        made: list[Packet] = []
        encoder: _Encoder | None = None
        try:
            for picture in _pictures(self._codec, packets):
                assert picture.pts is not None
                if not begin <= picture.pts < end:
                    continue
                if encoder is None or encoder.size != (picture.width, picture.height):
                    made += encoder.rest() if encoder is not None else []
                    encoder = _Encoder(self._codec, picture, _profile(self._codec, packets[0].data))
                made += encoder.take(picture)
            made += encoder.rest() if encoder is not None else []
        except FFmpegError as error:
            raise internal(f"the edge of a clip could not be encoded: {error}") from error
        return made


def _pictures(codec: VideoCodec, packets: Sequence[Packet]) -> Iterable[VideoFrame]:
    """Decodes pictures to display order, with times in TICKS."""
    context = CodecContext.create(_DECODER[codec], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    for packet in packets:
        block: av.Packet[Any] = av.Packet(packet.data)
        block.pts, block.dts, block.time_base = packet.pts, packet.dts, TICKS
        yield from _in_order(context.decode(block))
    yield from _in_order(context.decode(None))


def _in_order(pictures: Iterable[Any]) -> Iterable[VideoFrame]:
    for picture in pictures:
        if isinstance(picture, VideoFrame) and picture.pts is not None:
            yield picture


class _Encoder:
    def __init__(self, codec: VideoCodec, first: VideoFrame, profile: str) -> None:
        context = CodecContext.create(_ENCODER[codec], "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = first.width, first.height
        context.pix_fmt = first.format.name
        context.time_base, context.framerate = TICKS, Fraction(_RATE)
        context.thread_count = 1
        context.color_range, context.colorspace = first.color_range, first.colorspace
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        context.gop_size = 100_000
        context.options = _NO_REORDER[codec] | ({"profile": profile} if profile else {})
        with kept_schedule():
            context.open()
        self._context = context
        self._is_first = True
        self.size = first.width, first.height

    def take(self, picture: VideoFrame) -> list[Packet]:
        picture.time_base = TICKS
        picture.pict_type = PictureType.I if self._is_first else PictureType.NONE
        self._is_first = False
        return self._packets(self._context.encode(picture))

    def rest(self) -> list[Packet]:
        return self._packets(self._context.encode(None))

    def _packets(self, blocks: "Iterable[av.Packet[Any]]") -> list[Packet]:
        return [
            Packet(MediaKind.VIDEO, bytes(b), b.pts, b.pts, 0, TICKS, bool(b.is_keyframe))
            for b in blocks
            if b.pts is not None
        ]


def _profile(codec: VideoCodec, key_frame: bytes) -> str:
    """Returns H.264's profile, so that a player of the recording can play its edge."""
    if codec is not VideoCodec.H264:
        return ""
    sets = [unit for unit in units(key_frame) if unit[0] & 0x1F == 7]
    return _PROFILES.get(sets[0][1], "") if sets and len(sets[0]) > 1 else ""
