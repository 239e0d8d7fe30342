"""Decides how to encode: the request's preset or options within their bounds, and codecs that fit all
outputs."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from livekit.protocol.egress import EncodingOptions
from livekit.protocol.models import AudioCodec as WireAudioCodec
from livekit.protocol.models import VideoCodec as WireVideoCodec

from openegress.core.codecs import (
    CONTAINER_AUDIO,
    CONTAINER_ENCODED_VIDEO,
    DEFAULT_AUDIO_HZ,
    DEFAULT_AUDIO_KBPS,
    DEFAULT_KEY_FRAME_INTERVAL_S,
    PRESETS,
    AudioCodec,
    Container,
    H264Profile,
    VideoCodec,
)
from openegress.core.errors import EgressError, invalid, missing_or_invalid
from openegress.core.plan import AudioEncoding, VideoEncoding

PASSTHROUGH = 8
"""Number in EncodingOptionsPreset."""

MIN_SIDE = 16
MAX_SIDE = 16_384
"""Maximum side of libx264; MAX_PIXELS limits the cost of a picture."""
MAX_PIXELS = 7680 * 4320
MAX_FRAMERATE = 240
VIDEO_KBPS = (1, 200_000)
AUDIO_KBPS = (6, 512)
MAX_MP3_KBPS = 320
SAMPLE_RATES_HZ = (
    8_000,
    11_025,
    12_000,
    16_000,
    22_050,
    24_000,
    32_000,
    44_100,
    48_000,
    64_000,
    88_200,
    96_000,
)
MAX_MP3_HZ = 48_000
OPUS_HZ = 48_000
"""Opus runs at 48 kHz whatever goes in (RFC 7845 5.1)."""
MAX_KEY_FRAME_INTERVAL_S = 86_400.0

ENCODED_AUDIO = (AudioCodec.AAC, AudioCodec.OPUS, AudioCodec.MP3)
ENCODED_VIDEO = (VideoCodec.H264, VideoCodec.VP8)
"""Codecs to choose from if the request names none."""

FORMAT_NAMES: dict[Container, str] = {
    Container.MP4: "video/mp4",
    Container.OGG: "audio/ogg",
    Container.MP3: "audio/mpeg",
    Container.WEBM: "video/webm",
    Container.MKV: "video/x-matroska",
    Container.MKA: "audio/x-matroska",
    Container.MCAP: "application/x-mcap",
    Container.TS: "application/x-mpegurl",
    Container.FMP4: "application/x-mpegurl",
    Container.FLV: "rtmp",
}
CODEC_NAMES: dict[AudioCodec | VideoCodec, str] = {
    AudioCodec.AAC: "audio/aac",
    AudioCodec.OPUS: "audio/opus",
    AudioCodec.MP3: "audio/mpeg",
    VideoCodec.H264: "video/h264",
    VideoCodec.H265: "video/h265",
    VideoCodec.VP8: "video/vp8",
    VideoCodec.VP9: "video/vp9",
    VideoCodec.AV1: "video/av1",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """The encoding that a request asks for, with defaults filled in. A codec is None if any will do."""

    asked: bool = False
    passthrough: bool = False
    width: int = 1280
    height: int = 720
    framerate: int = 30
    video_kbps: int = 3000
    profile: H264Profile = H264Profile.MAIN
    video_codec: VideoCodec | None = None
    key_frame_interval_s: float = 0.0
    """Requested interval; 0: not requested."""
    audio_codec: AudioCodec | None = None
    audio_kbps: int = DEFAULT_AUDIO_KBPS
    sample_rate: int = DEFAULT_AUDIO_HZ
    notices: tuple[str, ...] = ()
    """Notices of requested settings that have no effect."""
    of_picture: tuple[str, ...] = ()
    of_sound: tuple[str, ...] = ()
    """Fields of the request that are set, by what they are about: picture and sound."""


def from_preset(number: int) -> Wish:
    """The encoding of a preset. Raises EgressError invalid_argument for an unknown one."""
    if number == PASSTHROUGH:
        return Wish(asked=True, passthrough=True)
    preset = PRESETS.get(number)
    if preset is None:
        raise missing_or_invalid("preset")
    return Wish(
        asked=True,
        width=preset.width,
        height=preset.height,
        framerate=preset.framerate,
        video_kbps=preset.video_kbps,
        of_picture=("preset",),
    )


def from_options(options: EncodingOptions) -> Wish:
    """The encoding of `advanced`, where 0 means the default. Raises EgressError invalid_argument, which names
    field and bound."""
    default = Wish()
    width = side("width", options.width) or default.width
    height = side("height", options.height) or default.height
    check_pixels(width, height)
    # Upstream's colour depth of the display is checked as upstream does, but our display always has 24 bits.
    if options.depth not in (0, 8, 16, 24):
        raise missing_or_invalid("depth")
    if options.audio_frequency and options.audio_frequency not in SAMPLE_RATES_HZ:
        rates = ", ".join(map(str, SAMPLE_RATES_HZ))
        raise missing_or_invalid(f"audio_frequency ({options.audio_frequency} Hz is not one of {rates})")
    audio_codec = _audio_codec(options.audio_codec)
    audio_kbps = _within("audio_bitrate", options.audio_bitrate, *AUDIO_KBPS) or default.audio_kbps
    video_codec, profile = _video_codec(options.video_codec)
    return Wish(
        asked=True,
        width=width,
        height=height,
        framerate=_within("framerate", options.framerate, 1, MAX_FRAMERATE) or default.framerate,
        video_kbps=_within("video_bitrate", options.video_bitrate, *VIDEO_KBPS) or default.video_kbps,
        profile=profile,
        video_codec=video_codec,
        key_frame_interval_s=_key_frame_interval(options.key_frame_interval),
        audio_codec=audio_codec,
        audio_kbps=audio_kbps,
        sample_rate=options.audio_frequency or default.sample_rate,
        notices=tuple(f"advanced.{name} has no effect" for name in _without_effect(options)),
        of_picture=tuple(f"advanced.{name}" for name in _VIDEO_FIELDS if getattr(options, name)),
        of_sound=tuple(f"advanced.{name}" for name in _AUDIO_FIELDS if getattr(options, name)),
    )


_VIDEO_FIELDS = ("width", "height", "framerate", "video_codec", "video_bitrate", "key_frame_interval")
_AUDIO_FIELDS = ("audio_codec", "audio_bitrate", "audio_frequency")


def _without_effect(options: EncodingOptions) -> Iterator[str]:
    if options.depth not in (0, 24):
        yield "depth"
    if options.audio_quality:
        yield "audio_quality"
    if options.video_quality:
        yield "video_quality"


def side(field: str, value: int) -> int:
    """The width or height of a picture; the caller fills in 0. Raises EgressError for an invalid one."""
    if value == 0:
        return 0
    if value < MIN_SIDE or value % 2:
        raise missing_or_invalid(field)
    if value > MAX_SIDE:
        raise missing_or_invalid(f"{field} ({value} is above the largest, {MAX_SIDE})")
    return value


def check_pixels(width: int, height: int) -> None:
    """Raises EgressError for a picture that is too large."""
    if width * height > MAX_PIXELS:
        raise missing_or_invalid(f"width ({width}x{height} has more than {MAX_PIXELS} pixels)")


def _within(field: str, value: int, least: int, most: int) -> int:
    if value and not least <= value <= most:
        raise missing_or_invalid(f"{field} ({value} is outside {least}..{most})")
    return value


def _key_frame_interval(seconds: float) -> float:
    if seconds == 0:
        return 0.0
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_KEY_FRAME_INTERVAL_S:
        raise missing_or_invalid(
            f"key_frame_interval ({seconds} s is outside 0..{MAX_KEY_FRAME_INTERVAL_S:g})"
        )
    return seconds


def _audio_codec(wire: int) -> AudioCodec | None:
    match wire:
        case WireAudioCodec.DEFAULT_AC:
            return None
        case WireAudioCodec.OPUS:
            return AudioCodec.OPUS
        case WireAudioCodec.AAC:
            return AudioCodec.AAC
        case WireAudioCodec.AC_MP3:
            return AudioCodec.MP3
        case _:
            raise missing_or_invalid("audio_codec")


def _video_codec(wire: int) -> tuple[VideoCodec | None, H264Profile]:
    match wire:
        case WireVideoCodec.DEFAULT_VC:
            return None, H264Profile.MAIN
        case WireVideoCodec.H264_BASELINE:
            return VideoCodec.H264, H264Profile.BASELINE
        case WireVideoCodec.H264_MAIN:
            return VideoCodec.H264, H264Profile.MAIN
        case WireVideoCodec.H264_HIGH:
            return VideoCodec.H264, H264Profile.HIGH
        case WireVideoCodec.VP8:
            return VideoCodec.VP8, H264Profile.MAIN
        case _:
            raise missing_or_invalid("video_codec")


# --- codecs and containers

C = TypeVar("C", AudioCodec, VideoCodec)


@dataclass(frozen=True, slots=True)
class Formats:
    file: Container | None
    """The container of the file; None: there is no file output."""
    audio: AudioCodec | None
    video: VideoCodec | None
    notices: tuple[str, ...] = ()
    """Notices of what is encoded differently from the request."""


def against_webm(
    wish: Wish, *, has_audio: bool, file: Container | None, others: Iterable[Container], streamed: bool
) -> str:
    """The reason why the request rules out a WebM of VP8 and Opus; "": it does not. `file` is the type that
    the request names."""
    if streamed:
        return "a stream"
    if any(container is not Container.WEBM for container in others):
        return "HLS"
    if file not in (None, Container.WEBM):
        return file.value.upper()
    if has_audio and wish.audio_codec not in (None, AudioCodec.OPUS):
        return f"a file of {wish.audio_codec.value.upper()}"
    return ""


def choose(
    wish: Wish,
    *,
    has_audio: bool,
    has_video: bool,
    file: Container | None,
    default_file: bool,
    others: Iterable[Container],
    streamed: bool,
) -> Formats:
    """Chooses codecs that every output takes, and the container of a file without a requested one
    (`default_file`). `others` are the containers of segments and streams. If something else in the request
    rules VP8 out, it gives way to H.264, with a notice. Raises EgressError invalid_argument."""
    others = list(others)
    fixed = ([file] if file else []) + others
    notices: tuple[str, ...] = ()
    audio_wish = AudioCodec.AAC if streamed else wish.audio_codec
    video_wish = VideoCodec.H264 if streamed else wish.video_codec
    if has_video and wish.video_codec is VideoCodec.VP8:
        taker = against_webm(wish, has_audio=has_audio, file=file, others=others, streamed=streamed)
        if taker:
            video_wish = VideoCodec.H264
            notices = (f"advanced.video_codec VP8 is encoded as H264: {taker} takes no VP8",)
    if has_audio and streamed and wish.audio_codec not in (None, AudioCodec.AAC):
        name = wish.audio_codec.value.upper()
        notices += (f"advanced.audio_codec {name} is encoded as AAC: a stream takes no {name}",)
    audio = _fitting(ENCODED_AUDIO, audio_wish, fixed, CONTAINER_AUDIO) if has_audio else ()
    video = _fitting(ENCODED_VIDEO, video_wish, fixed, CONTAINER_ENCODED_VIDEO) if has_video else ()
    if default_file:
        file = _default_container(audio, video, has_audio, has_video)
    ordered = ([file] if file else []) + [each for each in fixed if each is not file]
    return Formats(
        file=file,
        audio=_first(audio, ordered, CONTAINER_AUDIO) if has_audio else None,
        video=_first(video, ordered, CONTAINER_ENCODED_VIDEO) if has_video else None,
        notices=notices,
    )


def _fitting(
    encodable: tuple[C, ...],
    wish: C | None,
    containers: list[Container],
    table: dict[Container, tuple[C, ...]],
) -> tuple[C, ...]:
    fitting = (wish,) if wish else encodable
    for container in containers:
        fitting = tuple(codec for codec in fitting if codec in table[container])
        if not fitting:
            raise (
                incompatible(container, wish)
                if wish
                else invalid("no supported codec is compatible with all outputs")
            )
    return fitting


def incompatible(container: Container, codec: AudioCodec | VideoCodec) -> EgressError:
    return invalid(f"format {FORMAT_NAMES[container]} incompatible with codec {CODEC_NAMES[codec]}")


def _default_container(
    audio: tuple[AudioCodec, ...], video: tuple[VideoCodec, ...], has_audio: bool, has_video: bool
) -> Container:
    order = (Container.MP4, Container.WEBM) if has_video else (Container.OGG, Container.MP4, Container.MP3)
    if VideoCodec.VP9 in video:
        order = (Container.WEBM, Container.MP4)
    for container in order:
        takes_audio = not has_audio or any(codec in CONTAINER_AUDIO[container] for codec in audio)
        takes_video = not has_video or any(codec in CONTAINER_ENCODED_VIDEO[container] for codec in video)
        if takes_audio and takes_video:
            return container
    raise invalid("no supported file output type is compatible with the selected codecs")


def _first(fitting: tuple[C, ...], containers: list[Container], table: dict[Container, tuple[C, ...]]) -> C:
    """The default codec of the first container whose default fits, else the first one that fits the first
    container."""
    for container in containers:
        if table[container] and table[container][0] in fitting:
            return table[container][0]
    for container in containers:
        for codec in table[container]:
            if codec in fitting:
                return codec
    return fitting[0]


# --- parameters


def video_encoding(wish: Wish, codec: VideoCodec, segment_s: int, streamed: bool) -> VideoEncoding:
    """The encoding of pictures. `segment_s` is 0 without segments."""
    return VideoEncoding(
        width=wish.width,
        height=wish.height,
        framerate=wish.framerate,
        kbps=wish.video_kbps,
        key_frame_interval_s=_interval(wish, segment_s, streamed),
        codec=codec,
        profile=wish.profile,
    )


def _interval(wish: Wish, segment_s: int, streamed: bool) -> float:
    """The key frame interval. A key frame falls on the start of every segment, as the interval divides the
    segment into whole frames."""
    asked = wish.key_frame_interval_s
    if not segment_s:
        return asked or DEFAULT_KEY_FRAME_INTERVAL_S
    most = asked or (DEFAULT_KEY_FRAME_INTERVAL_S if streamed else float(segment_s))
    frames = segment_s * wish.framerate
    least = math.ceil(min(segment_s / most, frames))  # the quotient may be infinite
    return segment_s / min(parts for parts in _divisors(frames) if parts >= least)


def _divisors(number: int) -> Iterator[int]:
    """Yields the divisors of a number in no order. Trying all of some millions would block others."""
    for small in range(1, math.isqrt(number) + 1):
        if number % small == 0:
            yield small
            yield number // small


def audio_encoding(wish: Wish, codec: AudioCodec) -> AudioEncoding:
    """The encoding of sound. Raises EgressError for a sample rate or bitrate that MP3 lacks."""
    if codec is AudioCodec.MP3 and wish.sample_rate > MAX_MP3_HZ:
        raise missing_or_invalid(f"audio_frequency ({wish.sample_rate} is above MP3's largest, {MAX_MP3_HZ})")
    if codec is AudioCodec.MP3 and wish.audio_kbps > MAX_MP3_KBPS:
        raise missing_or_invalid(f"audio_bitrate ({wish.audio_kbps} is above MP3's largest, {MAX_MP3_KBPS})")
    rate = OPUS_HZ if codec is AudioCodec.OPUS else wish.sample_rate
    return AudioEncoding(codec=codec, kbps=wish.audio_kbps, sample_rate=rate)
