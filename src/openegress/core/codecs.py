"""Codecs, containers, which of them fit together, and the encoding presets: tables, no code paths."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class MediaKind(StrEnum):
    AUDIO = "audio"
    VIDEO = "video"
    DATA = "data"
    """What participants send over data channels."""


class AudioCodec(StrEnum):
    AAC = "aac"
    OPUS = "opus"
    MP3 = "mp3"
    PCMU = "pcmu"
    PCMA = "pcma"


class VideoCodec(StrEnum):
    H264 = "h264"
    H265 = "h265"
    VP8 = "vp8"
    VP9 = "vp9"
    AV1 = "av1"


class AskedCodec(StrEnum):
    """What pictures may be encoded to, by the names of the option video_codec."""

    H264 = "h264"
    HEVC = "hevc"
    VP9 = "vp9"
    AV1 = "av1"

    @property
    def codec(self) -> VideoCodec:
        return VideoCodec.H265 if self is AskedCodec.HEVC else VideoCodec(self.value)


class H264Profile(StrEnum):
    BASELINE = "baseline"
    MAIN = "main"
    HIGH = "high"


class EncoderSpeed(StrEnum):
    """What an encoder spends on a picture, by the names of x264's presets; the quickest first."""

    ULTRAFAST = "ultrafast"
    SUPERFAST = "superfast"
    VERYFAST = "veryfast"
    FAST = "fast"
    """For recordings that are composed later, where nothing else waits for the machine."""


LIVE_SPEEDS = (EncoderSpeed.ULTRAFAST, EncoderSpeed.SUPERFAST, EncoderSpeed.VERYFAST)


class AskedSpeed(StrEnum):
    """What the option encoder_speed may be."""

    AUTO = "auto"
    """As fast as the machine requires."""
    ULTRAFAST = "ultrafast"
    SUPERFAST = "superfast"
    VERYFAST = "veryfast"


class Container(StrEnum):
    """What a packet ends up in. The value is also the file extension without its dot."""

    MP4 = "mp4"
    OGG = "ogg"
    MP3 = "mp3"
    WEBM = "webm"
    MKV = "mkv"
    MKA = "mka"
    MCAP = "mcap"
    TS = "ts"
    FMP4 = "m4s"
    FLV = "flv"


CONTAINER_AUDIO: dict[Container, tuple[AudioCodec, ...]] = {
    Container.MP4: (AudioCodec.AAC, AudioCodec.OPUS, AudioCodec.MP3),
    Container.OGG: (AudioCodec.OPUS,),
    Container.MP3: (AudioCodec.MP3,),
    Container.WEBM: (AudioCodec.OPUS,),
    Container.MKV: (AudioCodec.OPUS, AudioCodec.PCMU, AudioCodec.PCMA),
    Container.MKA: (AudioCodec.OPUS, AudioCodec.PCMU, AudioCodec.PCMA),
    Container.MCAP: (AudioCodec.OPUS, AudioCodec.PCMU, AudioCodec.PCMA),
    Container.TS: (AudioCodec.AAC, AudioCodec.MP3),
    Container.FMP4: (AudioCodec.AAC, AudioCodec.OPUS),
    Container.FLV: (AudioCodec.AAC,),
}
"""The audio codecs a container takes, the default first."""

CONTAINER_VIDEO: dict[Container, tuple[VideoCodec, ...]] = {
    Container.MP4: (VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1),
    Container.OGG: (),
    Container.MP3: (),
    Container.WEBM: (VideoCodec.VP8, VideoCodec.VP9, VideoCodec.AV1),
    Container.MKV: (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP8, VideoCodec.VP9, VideoCodec.AV1),
    Container.MKA: (),
    Container.MCAP: (VideoCodec.H264, VideoCodec.H265, VideoCodec.VP8, VideoCodec.VP9, VideoCodec.AV1),
    Container.TS: (VideoCodec.H264, VideoCodec.H265),
    Container.FMP4: (VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1),
    Container.FLV: (VideoCodec.H264,),
}
"""The video codecs a container takes as they come, the default first."""

CONTAINER_ENCODED_VIDEO = CONTAINER_VIDEO | {Container.MP4: (*CONTAINER_VIDEO[Container.MP4], VideoCodec.VP9)}
"""Codecs that the container takes only when a request asks for them. A VP9 track goes into WebM, which more
players support."""

MATROSKA = (Container.MKV, Container.MKA)
"""Files that hold any number of tracks (media.matroska)."""

TRACK_CONTAINER: dict[AudioCodec | VideoCodec, Container] = {
    AudioCodec.OPUS: Container.OGG,
    AudioCodec.PCMU: Container.OGG,
    AudioCodec.PCMA: Container.OGG,
    VideoCodec.H264: Container.MP4,
    VideoCodec.H265: Container.MP4,
    VideoCodec.AV1: Container.MP4,
    VideoCodec.VP8: Container.WEBM,
    VideoCodec.VP9: Container.WEBM,
}
"""The container of a track that is recorded alone without a request for one. G.711 is encoded to Opus, as
FFmpeg's Ogg takes no G.711; all others are stored as they are."""


@dataclass(frozen=True, slots=True)
class Preset:
    width: int
    height: int
    framerate: int
    video_kbps: int


PRESETS: dict[int, Preset] = {
    0: Preset(1280, 720, 30, 3000),
    1: Preset(1280, 720, 60, 4500),
    2: Preset(1920, 1080, 30, 4500),
    3: Preset(1920, 1080, 60, 6000),
    4: Preset(720, 1280, 30, 3000),
    5: Preset(720, 1280, 60, 4500),
    6: Preset(1080, 1920, 30, 4500),
    7: Preset(1080, 1920, 60, 6000),
}
"""EncodingOptionsPreset number -> picture."""

DEFAULT_AUDIO_KBPS = 128
DEFAULT_AUDIO_HZ = 44_100
DEFAULT_KEY_FRAME_INTERVAL_S = 4.0
DEFAULT_SEGMENT_S = 4

VIDEO_TIME_BASE = Fraction(1, 90_000)
"""RTP's clock for video (RFC 3551), so that containers get the sender's times unrounded."""

AUDIO_RATE: dict[AudioCodec, int] = {
    AudioCodec.OPUS: 48_000,
    AudioCodec.PCMU: 8_000,
    AudioCodec.PCMA: 8_000,
}
"""RTP clock rates, which for these are the sample rates too (RFC 7587, RFC 3551)."""

MIME_CODECS: dict[str, AudioCodec | VideoCodec] = {
    "audio/opus": AudioCodec.OPUS,
    "audio/red": AudioCodec.OPUS,  # RFC 2198 redundancy around Opus, taken off on receipt
    "audio/pcmu": AudioCodec.PCMU,
    "audio/pcma": AudioCodec.PCMA,
    "video/h264": VideoCodec.H264,
    "video/h265": VideoCodec.H265,
    "video/hevc": VideoCodec.H265,
    "video/vp8": VideoCodec.VP8,
    "video/vp9": VideoCodec.VP9,
    "video/av1": VideoCodec.AV1,
}
"""Codecs by MIME type in lower case, as rooms announce tracks."""
