"""Packets as a recording's encoders produce them: the counter pattern and a tone, in encoding order."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.encoder import AudioEncoder, VideoEncoder
from testkit.pattern import Picture, PictureSpec, Sound

BLOCK_NS = S // 100


@dataclass(frozen=True, slots=True)
class Spec:
    seconds: float = 6.0
    width: int = 320
    height: int = 180
    fps: int = 30
    kbps: int = 500
    key_frame_interval_s: float = 2.0
    video: bool = True
    audio: AudioCodec | None = AudioCodec.AAC
    sample_rate: int = 48_000
    steady: bool = False
    shown_for: int = 1
    """How many slots in a row have the same picture."""
    has_variable_rate: bool = False
    codec: VideoCodec = VideoCodec.H264


class Encoded:
    """Encoders and their output for the pattern; frame n shows the counter n."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._video = (
            VideoEncoder(
                VideoEncoding(
                    spec.width,
                    spec.height,
                    spec.fps,
                    spec.kbps,
                    spec.key_frame_interval_s,
                    spec.codec,
                    has_variable_rate=spec.has_variable_rate,
                ),
                steady=spec.steady,
            )
            if spec.video
            else None
        )
        self._audio = (
            AudioEncoder(AudioEncoding(spec.audio, 96, spec.sample_rate)) if spec.audio is not None else None
        )
        self._picture = Picture(PictureSpec(spec.width, spec.height, spec.fps, (40, 90, 170)))
        self._sound = Sound(440.0)

    @property
    def formats(self) -> tuple[StreamFormat, ...]:
        return tuple(e.format for e in (self._video, self._audio) if e is not None)

    @property
    def frames(self) -> int:
        return round(self.spec.seconds * self.spec.fps)

    def packets(self) -> Iterator[Packet]:
        """All of them, once."""
        block = 0
        for counter in range(self.frames):
            at_ns = counter * S // self.spec.fps
            if self._video is not None:
                if counter % self.spec.shown_for == 0:
                    planes = np.frombuffer(self._picture.draw(counter), np.uint8)
                    shape = (self.spec.height * 3 // 2, self.spec.width)
                    frame = av.VideoFrame.from_ndarray(planes.reshape(shape), "yuv420p")
                yield from self._video.encode(frame, at_ns)
            while self._audio is not None and block * BLOCK_NS < (counter + 1) * S // self.spec.fps:
                yield from self._audio.encode(_stereo(self._sound.block(block)), block * BLOCK_NS, 48_000)
                block += 1
        for encoder in (self._video, self._audio):
            if encoder is not None:
                yield from encoder.flush()


def _stereo(mono: bytes) -> bytes:
    return np.frombuffer(mono, "<i2").repeat(2).tobytes()


class PassedThrough(Encoded):
    """Looks like a room's track: nobody here set its rate, and key frames come at any time and are marked."""

    @property
    def formats(self) -> tuple[StreamFormat, ...]:
        return tuple(
            dataclasses.replace(f, kbps=0) if f.kind is MediaKind.VIDEO else f for f in super().formats
        )

    def packets(self) -> Iterator[Packet]:
        template = self.formats[0].template
        assert isinstance(template, VideoStream)
        parameters = template.codec_context.extradata or b""
        for packet in super().packets():
            has_own = packet.kind is MediaKind.VIDEO and packet.is_key
            yield dataclasses.replace(packet, data=parameters + packet.data) if has_own else packet


def later(packet: Packet, seconds: float) -> Packet:
    ticks = round(seconds * packet.time_base.denominator)
    return dataclasses.replace(packet, pts=packet.pts + ticks, dts=packet.dts + ticks)


def turning() -> list[Packet]:
    """12 s of a publisher who turns the phone, and turns it back."""
    packets: list[Packet] = []
    for n, (width, height) in enumerate([(160, 90), (90, 160), (160, 90)]):
        encoded = PassedThrough(Spec(seconds=4.0, width=width, height=height, steady=True))
        packets += (later(packet, 4 * n) for packet in encoded.packets() if packet.pts_ns >= 0 or n == 0)
    return packets
