"""Decodes the media of a room: one access unit in, pictures or samples out. Each decoder belongs to one
thread."""

from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.units import S
from openegress.media.samples import SAMPLE_RATE, Samples

_NANOSECOND = Fraction(1, S)

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
    """Decodes video and shows only intact pictures: at the start, and after a loss, it waits for a key frame.

    Decoders conceal a missing reference silently, so the RTP side must report the gap.
    """

    def __init__(self, codec: VideoCodec, most_pixels: int) -> None:
        """Pictures of more than `most_pixels` are refused before memory is allocated for them."""
        self.codec = codec
        context = av.CodecContext.create(_VIDEO_DECODER[codec], "r")
        assert isinstance(context, VideoCodecContext)
        options = {"max_pixels": str(most_pixels)}
        # Frame threads would hold pictures back. A stream without B frames needs no waiting.
        context.thread_count = 1
        context.flags |= Flags.low_delay
        if codec is VideoCodec.AV1:
            options["max_frame_delay"] = "1"
        context.options = options
        self._context = context
        self._awaits_key = True

    @property
    def awaits_key(self) -> bool:
        """Whether the sender must be asked for a key frame."""
        return self._awaits_key

    @property
    def depth(self) -> int:
        """Number of pictures by which the stream reorders, as far as it has stated. Pictures come out that
        much later."""
        return self._context.reorder_depth

    def decode(
        self, data: bytes, pts_ns: int, *, is_key: bool, after_gap: bool = False
    ) -> list[av.VideoFrame]:
        """Returns the pictures that are due with this access unit, in display order, each with the `pts` of
        its own unit. That is one picture if nothing is reordered, and none while a key frame is awaited or if
        the unit shows none."""
        if after_gap:
            self._awaits_key = True
        if self._awaits_key and not is_key:
            return []
        packet = av.Packet(data)
        packet.pts, packet.time_base = pts_ns, _NANOSECOND
        try:
            pictures = self._context.decode(packet)
        except FFmpegError:
            # Damage that RTP did not show; a key frame repairs it.
            self._awaits_key = True
            return []
        self._awaits_key = False
        return pictures


class AudioDecoder:
    """Decodes Opus and G.711 to stereo samples at SAMPLE_RATE."""

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
        """Returns the sound of one packet; empty if the packet is damaged."""
        try:
            frames = self._context.decode(av.Packet(data))
        except FFmpegError:
            return _SILENCE  # the next packet is independent; the mixer fills the gap
        parts = [part for frame in frames for part in self._resample(frame)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else _SILENCE

    def _resample(self, frame: av.AudioFrame) -> list[Samples]:
        if frame.format.name == "s16" and frame.sample_rate == SAMPLE_RATE and frame.layout.name == "stereo":
            return [_stereo(frame)]
        frame.pts = None  # contiguous by the resampler's own count
        return [_stereo(each) for each in self._resampler.resample(frame)]


_SILENCE: Samples = np.zeros((0, 2), np.int16)


def _stereo(frame: av.AudioFrame) -> Samples:
    return np.frombuffer(bytes(frame.planes[0]), np.int16)[: 2 * frame.samples].reshape(-1, 2)
