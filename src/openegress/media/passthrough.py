"""What a muxer must know of a stream that nobody here encodes, read from its first frames.

H.264, H.265 and AV1 carry their parameters in the key frame; FFmpeg's own demuxers take them out of a tiny
stream in memory, whose Stream is then the template. VP8, VP9, Opus and G.711 need none.
"""

import io
import struct
from fractions import Fraction

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Phase, internal
from openegress.media import StreamFormat

VIDEO_TIME_BASE = Fraction(1, 90_000)
"""RTP's clock for video (RFC 3551): a container gets the sender's times unrounded."""

AUDIO_RATE: dict[AudioCodec, int] = {
    AudioCodec.OPUS: 48_000,
    AudioCodec.PCMU: 8_000,
    AudioCodec.PCMA: 8_000,
}
"""RTP clock rates, which for these are the sample rates too (RFC 7587, RFC 3551)."""

_ANNEX_B = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}


def video_format(codec: VideoCodec, key_frame: bytes, width: int, height: int) -> StreamFormat:
    """`key_frame`: the first key frame (Annex B, a VP8/VP9 frame, or AV1 OBUs with sizes).

    Raises EgressError when FFmpeg finds no parameters in it.
    """
    template: VideoStream | None = None
    try:
        if codec in _ANNEX_B:
            # The parser gives a frame only when it sees the next begin.
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


def audio_format(codec: AudioCodec) -> StreamFormat:
    """Opus over RTP always announces two channels (RFC 7587 section 7); G.711 has one."""
    rate = AUDIO_RATE[codec]
    channels = 2 if codec is AudioCodec.OPUS else 1
    return StreamFormat(
        MediaKind.AUDIO, codec, Fraction(1, rate), None, kbps=0, sample_rate=rate, channels=channels
    )


def _first_video(data: bytes, format_name: str) -> VideoStream:
    return av.open(io.BytesIO(data), format=format_name).streams.video[0]


def _ivf(frame: bytes, width: int, height: int) -> bytes:
    """An IVF file that holds the frame twice."""
    header = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"AV01", width, height, 30, 1, 2, 0)
    return header + b"".join(struct.pack("<IQ", len(frame), i) + frame for i in range(2))
