"""Reads what a muxer must know about a passed-through stream from its first frames.

H.264, H.265 and AV1 carry their parameters in the key frame. FFmpeg's own demuxers extract them from a tiny
stream in memory, whose Stream is then the template. VP8, VP9, Opus and G.711 need none.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from openegress.core.annex_b import units
from openegress.core.codecs import AUDIO_RATE, VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError, Phase, internal
from openegress.media import Packet, StreamFormat

_ANNEX_B = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}


def video_format(codec: VideoCodec, key_frame: bytes, width: int, height: int) -> StreamFormat:
    """Reads the format from `key_frame`, the first one (Annex B, a VP8/VP9 frame, or AV1 OBUs with sizes).

    Raises EgressError when FFmpeg finds no parameters in it.
    """
    template: VideoStream | None = None
    try:
        if codec in _ANNEX_B:
            # The parser returns a frame only when it sees the start of the next.
            template = _first_video(key_frame * 2, _ANNEX_B[codec])
        elif codec is VideoCodec.AV1:
            template = _first_video(_ivf(key_frame, width, height), "ivf")
    except (FFmpegError, IndexError) as error:
        raise internal(
            f"no {codec.value} parameters in a key frame of {len(key_frame)} bytes: {error}",
            Phase.FIRST_FRAME,
        ) from error
    if template is not None:
        if not template.codec_context.width:
            raise internal(
                f"a key frame of {len(key_frame)} bytes has no {codec.value} parameters", Phase.FIRST_FRAME
            )
        width, height = template.codec_context.width, template.codec_context.height
    return StreamFormat(MediaKind.VIDEO, codec, VIDEO_TIME_BASE, template, kbps=0, width=width, height=height)


def reorder_depth(form: StreamFormat) -> int:
    """Returns by how many pictures decoding order differs from display order, according to the parameters (B
    frames; H.264 E.2.1 max_num_reorder_frames, H.265 7.4.3.2.1 sps_max_num_reorder_pics)."""
    template = form.template
    return template.codec_context.reorder_depth if isinstance(template, VideoStream) else 0


def audio_format(codec: AudioCodec) -> StreamFormat:
    """Returns the format. Opus over RTP always announces two channels (RFC 7587 section 7); G.711 has one."""
    rate = AUDIO_RATE[codec]
    channels = 2 if codec is AudioCodec.OPUS else 1
    return StreamFormat(
        MediaKind.AUDIO, codec, Fraction(1, rate), None, kbps=0, sample_rate=rate, channels=channels
    )


class FormatChanges:
    """Detects where passed-through video changes its size or profile: a publisher rotates the phone, shares
    another window, or sends another layer. Confined to one thread."""

    def __init__(self, formats: Sequence[StreamFormat]) -> None:
        video = next((f for f in formats if f.is_passed_through), None)
        self._codec = video.codec if video is not None else None
        self._parameters = b""

    @property
    def is_known(self) -> bool:
        """Whether a key frame has stated the format."""
        return bool(self._parameters)

    def begin_with(self, packet: Packet) -> bool:
        """Whether the format from `packet` on differs from that of the packets before."""
        if self._codec is None or packet.kind is not MediaKind.VIDEO or not packet.is_key:
            return False
        before, found = self._parameters, parameters(self._codec, packet.data)
        self._parameters = found or before
        return bool(before and found and before != found)


def renewed(formats: Sequence[StreamFormat], key_frame: Packet) -> tuple[StreamFormat, ...]:
    """Returns the formats from a key frame on for which FormatChanges found a difference."""
    return tuple(_renewed(f, f.codec, key_frame) if isinstance(f.codec, VideoCodec) else f for f in formats)


def _renewed(before: StreamFormat, codec: VideoCodec, key_frame: Packet) -> StreamFormat:
    try:
        now = video_format(codec, key_frame.data, before.width, before.height)
    except EgressError:
        # If FFmpeg cannot read it, no other format would help: the media continues unchanged.
        return before
    return replace(before, template=now.template, width=now.width, height=now.height)


def parameters(codec: AudioCodec | VideoCodec, key_frame: bytes) -> bytes:
    """Returns the size and profile of a key frame: the sequence parameter sets (H.264 7.3.1, H.265 7.3.1.2)
    or the sequence header (AV1 5.3). b"" if it has none, or the codec carries them elsewhere."""
    match codec:
        case VideoCodec.H264:
            return b"".join(unit for unit in units(key_frame) if unit[0] & 0x1F == 7)
        case VideoCodec.H265:
            return b"".join(unit for unit in units(key_frame) if unit[0] >> 1 & 0x3F == 33)
        case VideoCodec.AV1:
            return b"".join(unit for unit in obus(key_frame) if unit[0] >> 3 & 0x0F == 1)
        case _:
            return b""


def parameter_sets(codec: VideoCodec, key_frame: bytes) -> bytes:
    """Returns everything a key frame declares for itself and the frames after it: parameters(), and the
    picture parameter sets, which a sample entry of an MP4 holds too (ISO/IEC 14496-15 5.3.3 and 8.3.3)."""
    match codec:
        case VideoCodec.H264:
            return b"".join(unit for unit in units(key_frame) if unit[0] & 0x1F in (7, 8))
        case VideoCodec.H265:
            return b"".join(unit for unit in units(key_frame) if unit[0] >> 1 & 0x3F in (32, 33, 34))
        case _:
            return parameters(codec, key_frame)


def obus(data: bytes) -> list[bytes]:
    """Splits AV1 data into OBUs with sizes; ignores everything after a broken one."""
    found = []
    at = 0
    while at < len(data):
        end = at + (2 if data[at] & 0x04 else 1)
        size = shift = 0
        while end < len(data):
            size |= (data[end] & 0x7F) << shift
            shift += 7
            end += 1
            if not data[end - 1] & 0x80:
                break
        found.append(data[at : end + size])
        at = end + size
    return found


def _first_video(data: bytes, format_name: str) -> VideoStream:
    return av.open(io.BytesIO(data), format=format_name).streams.video[0]


def _ivf(frame: bytes, width: int, height: int) -> bytes:
    """Builds an IVF file that holds the frame twice."""
    header = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"AV01", width, height, 30, 1, 2, 0)
    return header + b"".join(struct.pack("<IQ", len(frame), i) + frame for i in range(2))
