"""Encodes raw frames to packets, once per codec for all outputs that share it.

A dummy container hosts each encoder, because that makes FFmpeg put the codec's parameters outside the stream
("global header"): the stream then serves as the template for every muxer.
"""

import io
import math
import time
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import PictureType

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import internal
from openegress.core.left_out import QuickerEncoding
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.encoder_settings import BT601, BT709, kept_schedule, settings_of
from openegress.media.h264_skip import Headers, RepeatWriter
from openegress.media.passthrough import parameter_sets
from openegress.media.still import StillPictures, Unit

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

VIDEO_TIME_BASE = Fraction(1, 90_000)
"""The time base of RTP and MPEG-TS, which FLV rounds. None of our containers needs a finer one for video."""

_AUDIO_ENCODER: dict[AudioCodec, str] = {
    AudioCodec.AAC: "aac",
    AudioCodec.OPUS: "libopus",
    AudioCodec.MP3: "libmp3lame",
}
_AUDIO_OPTIONS: dict[AudioCodec, dict[str, object]] = {
    AudioCodec.AAC: {"aac_coder": "fast"},
    AudioCodec.OPUS: {"compression_level": "7"},
}
"""Options of audio encoders. Opus at full effort takes a third more time for 0.04 dB (measured); below 7 it
no longer looks for tones, and music loses 0.8 dB."""
_PATIENCE_S = 0.4
"""How long a key frame of an unchanged picture waits at most, so that it need not be encoded. A kill costs
that much more, but only of an unchanged picture."""

_LIMITED = 1
"""FFmpeg's number of the limited range."""


class VideoEncoder:
    """Encodes pictures with any codec: one frame in, any number of packets out; confined to one thread.

    `steady` holds the requested bit rate (live streams), in H.264; otherwise it is a ceiling. Key frames come
    at every whole multiple of the interval on the timeline, and nowhere else, so that segments cut there.

    A frame object given again is the same picture. In H.264 under a ceiling, x264 no longer sees a repeated
    picture once it adds nothing to it, nor its key frames; at a variable rate the stream then has one picture
    a second. With a steady rate x264 sees all pictures.
    """

    def __init__(self, encoding: VideoEncoding, *, steady: bool) -> None:
        settings = settings_of(encoding, steady=steady)
        self._host = av.open(io.BytesIO(), "w", format=settings.host)
        stream = cast("VideoStream", self._host.add_stream(settings.name, rate=encoding.framerate))
        stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, "yuv420p"
        stream.options = settings.options
        context = stream.codec_context
        context.time_base = VIDEO_TIME_BASE
        context.framerate = Fraction(encoding.framerate)
        context.color_range, context.colorspace = _LIMITED, settings.matrix
        context.color_primaries, context.color_trc = BT709, BT709
        with kept_schedule():
            self._host.start_encoding()  # opens the codec and completes the stream's parameters
        self._context = context
        self._colours = _ToBt601(encoding) if settings.matrix == BT601 else None
        self._last: av.VideoFrame | None = None
        self._still = None if steady else _still_pictures(encoding, context.extradata)
        self._interval_ns = max(1, round(encoding.key_frame_interval_s * S))
        self._ticks = round(1 / VIDEO_TIME_BASE / encoding.framerate)
        self._next_key_ns = 0
        self._held = 0
        """Number of pictures that an encoder holds if it sees every picture."""
        self.speed = encoding.speed
        self.quicker: tuple[QuickerEncoding, ...] = ()
        """Always empty, as this encoder never changes its speed; see AdaptingEncoder."""
        self.format = StreamFormat(
            kind=MediaKind.VIDEO,
            codec=encoding.codec,
            time_base=VIDEO_TIME_BASE,
            template=stream,
            kbps=encoding.kbps,
            width=encoding.width,
            height=encoding.height,
            framerate=encoding.framerate,
            has_variable_rate=encoding.has_variable_rate,
        )

    def encode(self, frame: av.VideoFrame, pts_ns: int) -> list[Packet]:
        """Encodes a picture. `frame` is yuv420p of the encoding's size. Nobody may write to it any more."""
        pts = round(pts_ns * VIDEO_TIME_BASE.denominator / S)
        is_key = self.is_key_due(pts_ns)
        if is_key:
            self._next_key_ns = ((pts_ns + S // 1000) // self._interval_ns + 1) * self._interval_ns
        before, self._last = self._last, frame
        if self._still is None:
            self._held += 1
            return self._packets(self._context.encode(self._prepared(frame, pts, is_key=is_key)))
        step = self._still.take(pts, is_new=frame is not before, is_key=is_key)
        packets = self._units(step.units)
        for each in step.inputs:
            shown = frame if each is step.inputs[-1] or before is None else before
            packets += self._packets(
                self._context.encode(self._prepared(shown, each.pts, is_key=each.is_key))
            )
        return packets

    def _prepared(self, frame: av.VideoFrame, pts: int, *, is_key: bool) -> av.VideoFrame:
        if self._colours is not None:
            frame = self._colours.convert(frame)
        frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        frame.pict_type = PictureType.I if is_key else PictureType.NONE
        return frame

    def is_key_due(self, pts_ns: int) -> bool:
        """Whether a picture at that time is a key frame."""
        # A nanosecond of rounding must not shift a key frame by a whole frame.
        return pts_ns + S // 1000 >= self._next_key_ns

    @property
    def parameter_sets(self) -> bytes:
        """H.264 parameter sets in Annex B, which are outside the stream."""
        return parameter_sets(VideoCodec.H264, bytes(self._context.extradata or b""))

    @property
    def inside(self) -> int:
        """Number of pictures that went in and have not come out."""
        return self._held if self._still is None else self._still.inside

    def begin_anew(self) -> None:
        """Makes the next picture a key frame, because the recording is cut before it."""
        self._next_key_ns = 0

    def flush(self, until_s: float = math.inf) -> list[Packet]:
        """Returns the remaining packets. Drops whatever has not come out by `until_s` on the monotonic
        clock."""
        if self._still is not None and (units := self._still.end()) is not None:
            return self._units(units)
        given: list[Packet] = []
        for packet in self._context.encode_lazy(None):
            given += self._packets([packet])
            if time.monotonic() >= until_s:
                break
        if self._still is not None:
            given += self._units(self._still.rest())
        return given

    def close(self) -> None:
        """Frees the codec and its threads now; a reference cycle would keep them until a full collection.
        `format` stays valid. Idempotent; nothing may be encoded after it."""
        self._host.close()

    def _packets(self, packets: "Iterable[av.Packet[Any]]") -> list[Packet]:
        given: list[Packet] = []
        for p in packets:
            if p.pts is None or p.dts is None:
                continue
            if self._still is not None:
                given += self._units(self._still.give(bytes(p), is_key=bool(p.is_keyframe)))
            else:
                self._held -= 1
                given.append(self._packet(bytes(p), p.pts, p.dts, is_key=bool(p.is_keyframe)))
        return given

    def _units(self, units: Iterable[Unit]) -> list[Packet]:
        return [self._packet(unit.data, unit.pts, unit.pts, is_key=unit.is_key) for unit in units]

    def _packet(self, data: bytes, pts: int, dts: int, *, is_key: bool) -> Packet:
        return Packet(MediaKind.VIDEO, data, pts, dts, self._ticks, VIDEO_TIME_BASE, is_key)


def _still_pictures(encoding: VideoEncoding, extradata: bytes | None) -> StillPictures | None:
    if encoding.codec is not VideoCodec.H264 or (headers := Headers.of(extradata or b"")) is None:
        return None
    bits_a_tick = encoding.kbps * 1000 / VIDEO_TIME_BASE.denominator
    most_ticks = VIDEO_TIME_BASE.denominator if encoding.has_variable_rate else 0
    patience_ticks = round(_PATIENCE_S * VIDEO_TIME_BASE.denominator)
    return StillPictures(RepeatWriter(headers), bits_a_tick, most_ticks, patience_ticks)


class _ToBt601:
    """Converts BT.709 pictures to BT.601, the only matrix of VP8 (RFC 6386 section 9.2): FFmpeg's decoder
    assumes it whatever the container says. Confined to one thread."""

    def __init__(self, encoding: VideoEncoding) -> None:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=encoding.width,
            height=encoding.height,
            format=VideoFormat("yuv420p"),
            time_base=VIDEO_TIME_BASE,
        )
        matrix = graph.add(
            "colorspace", "iall=bt709:irange=tv:all=bt601-6-625:range=tv:format=yuv420p:fast=1"
        )
        source.link_to(matrix)
        matrix.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph
        self._count = 0

    def convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._count += 1
        frame.pts, frame.time_base = self._count, VIDEO_TIME_BASE
        self._graph.push(frame)
        return cast("av.VideoFrame", self._graph.pull())


class AudioEncoder:
    """Encodes contiguous interleaved s16 stereo as AAC, Opus or MP3; confined to one thread."""

    def __init__(self, encoding: AudioEncoding) -> None:
        self._host = av.open(io.BytesIO(), "w", format="mp4")
        name = _AUDIO_ENCODER.get(encoding.codec)
        if name is None:
            raise internal(f"no encoder for {encoding.codec.value}")
        stream = cast("AudioStream", self._host.add_stream(name, rate=encoding.sample_rate))
        stream.layout = "stereo" if encoding.channels == 2 else "mono"
        stream.bit_rate = encoding.kbps * 1000
        stream.options = _AUDIO_OPTIONS.get(encoding.codec, {})
        context = stream.codec_context
        context.time_base = Fraction(1, encoding.sample_rate)
        self._host.start_encoding()  # opens the codec and completes the stream's parameters
        self._context = context
        self._time_base = Fraction(1, encoding.sample_rate)
        self._resampler = av.AudioResampler(
            format=context.format, layout=context.layout, rate=encoding.sample_rate
        )
        self._fifo = av.AudioFifo()
        self._frame_size = context.frame_size or 1024
        self.format = StreamFormat(
            kind=MediaKind.AUDIO,
            codec=encoding.codec,
            time_base=self._time_base,
            template=stream,
            kbps=encoding.kbps,
            sample_rate=encoding.sample_rate,
            channels=encoding.channels,
        )

    def encode(self, samples: bytes, pts_ns: int, sample_rate: int) -> list[Packet]:
        """Encodes `samples`: interleaved s16 stereo, contiguous with the block before it."""
        frame = av.AudioFrame(format="s16", layout="stereo", samples=len(samples) // 4)
        frame.planes[0].update(samples)
        frame.sample_rate = sample_rate
        frame.time_base = Fraction(1, sample_rate)
        frame.pts = round(pts_ns * sample_rate / S)
        return self._drain(self._resampler.resample(frame), partial=False)

    def flush(self) -> list[Packet]:
        packets = self._drain(self._resampler.resample(None), partial=True)
        return packets + self._packets(self._context.encode(None))

    def _drain(self, frames: Iterable[av.AudioFrame], *, partial: bool) -> list[Packet]:
        packets: list[Packet] = []
        for frame in frames:
            frame.pts = None  # the FIFO counts samples, because blocks are contiguous by contract
            self._fifo.write(frame)
        written = self._fifo.samples_written - self._fifo.samples
        while (block := self._fifo.read(self._frame_size, partial)) is not None:
            block.pts = written
            block.time_base = self._time_base
            written += block.samples
            packets += self._packets(self._context.encode(block))
        return packets

    def _packets(self, packets: "Iterable[av.Packet[Any]]") -> list[Packet]:
        return [
            Packet(MediaKind.AUDIO, bytes(p), p.pts, p.dts, p.duration or 0, self._time_base, True)
            for p in packets
            if p.pts is not None and p.dts is not None
        ]
