"""Decoders for what a room sends: one access unit in, pictures or samples out. Each belongs to one thread."""

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.media import NS

SAMPLE_RATE = 48_000
"""Of everything decoded: Opus' own, and the one mixing happens in."""

Samples = NDArray[np.int16]
"""(n, 2): interleaved stereo."""

_VIDEO_DECODER: dict[VideoCodec, str] = {
    VideoCodec.H264: "h264",
    VideoCodec.H265: "hevc",
    VideoCodec.VP8: "vp8",
    VideoCodec.VP9: "vp9",
    VideoCodec.AV1: "libdav1d",
}
_AUDIO_DECODER: dict[AudioCodec, tuple[str, int, str]] = {
    AudioCodec.OPUS: ("libopus", 48_000, "stereo"),
    AudioCodec.PCMU: ("pcm_mulaw", 8_000, "mono"),
    AudioCodec.PCMA: ("pcm_alaw", 8_000, "mono"),
}


class VideoDecoder:
    """Shows nothing it cannot trust: from the start, and after a loss, until the next key frame.

    Decoders conceal a missing reference without saying so, so the gap must come from the RTP side.
    """

    def __init__(self, codec: VideoCodec) -> None:
        self.codec = codec
        context = av.CodecContext.create(_VIDEO_DECODER[codec], "r")
        assert isinstance(context, VideoCodecContext)
        # Frame threads would hold pictures back; senders of real-time video do not reorder them.
        context.thread_count = 1
        context.flags |= Flags.low_delay
        if codec is VideoCodec.AV1:
            context.options = {"max_frame_delay": "1"}
        self._context = context
        self._awaits_key = True

    @property
    def awaits_key(self) -> bool:
        """The sender has to be asked for a key frame."""
        return self._awaits_key

    def decode(self, data: bytes, *, is_key: bool, after_gap: bool = False) -> av.VideoFrame | None:
        """The picture of one access unit; None while a key frame is awaited, or when the unit shows none."""
        if after_gap:
            self._awaits_key = True
        if self._awaits_key and not is_key:
            return None
        try:
            pictures = self._context.decode(av.Packet(data))
        except FFmpegError:
            # Damaged in a way that RTP did not show; a key frame mends it.
            self._awaits_key = True
            return None
        self._awaits_key = False
        return pictures[-1] if pictures else None


class AudioDecoder:
    """Opus and G.711 to stereo samples at SAMPLE_RATE."""

    def __init__(self, codec: AudioCodec) -> None:
        """Raises KeyError for a codec that no room sends."""
        self.codec = codec
        name, rate, layout = _AUDIO_DECODER[codec]
        context = av.CodecContext.create(name, "r")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = rate
        context.layout = layout
        context.thread_count = 1
        self._context = context
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=SAMPLE_RATE)

    def decode(self, data: bytes) -> Samples:
        """What one packet sounds like; empty when it is damaged."""
        try:
            frames = self._context.decode(av.Packet(data))
        except FFmpegError:
            return _SILENCE  # the next packet stands by itself; the mixer fills the hole
        parts = [part for frame in frames for part in self._resample(frame)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else _SILENCE

    def _resample(self, frame: av.AudioFrame) -> list[Samples]:
        if frame.format.name == "s16" and frame.sample_rate == SAMPLE_RATE and frame.layout.name == "stereo":
            return [_stereo(frame)]
        frame.pts = None  # contiguous by the resampler's own count
        return [_stereo(each) for each in self._resampler.resample(frame)]


_SILENCE: Samples = np.zeros((0, 2), np.int16)


def duration_ns(samples: Samples) -> int:
    return len(samples) * NS // SAMPLE_RATE


def _stereo(frame: av.AudioFrame) -> Samples:
    return np.frombuffer(bytes(frame.planes[0]), np.int16)[: 2 * frame.samples].reshape(-1, 2)
