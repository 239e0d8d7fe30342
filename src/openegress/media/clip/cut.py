"""Cuts a span of a recording into a file of the same type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openegress.core.codecs import Container, MediaKind, VideoCodec
from openegress.core.errors import EgressError, Phase, internal, invalid
from openegress.core.span import Span
from openegress.core.units import MS, S
from openegress.media import Packet, StreamFormat
from openegress.media.clip.chain import ChainedSource
from openegress.media.clip.edge import Edge
from openegress.media.clip.pictures import PictureCut
from openegress.media.clip.sound import PREROLL_NS, SoundCut
from openegress.media.clip.source import ClipPart, ClipSource
from openegress.media.clusters import ClusterWriter
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.muxer import ByteSink, Muxer
from openegress.media.passthrough import video_format

SEEK_BEFORE_NS = 300 * MS
"""Length of the sound before the span that a decoder needs."""
_LEAD_NS = 400 * MS
"""How much earlier than 0 a track of the clip may begin: preroll, and the delay of reordered pictures."""
_MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Limit for sound or pictures that wait for the first packet of the other kind, which determines what to
write."""
CLIP_CONTAINER = {
    Container.MP4: Container.MP4,
    Container.FMP4: Container.MP4,
    Container.TS: Container.MP4,
    Container.WEBM: Container.WEBM,
    Container.OGG: Container.OGG,
    Container.MP3: Container.MP3,
    Container.MKV: Container.MKV,
    Container.MKA: Container.MKA,
    Container.MCAP: Container.MCAP,
}
"""The container of a clip, by the container of the recording."""
_SOUND_OPTIONS = {Container.OGG: {"page_duration": "250000"}, Container.MP3: dict[str, str]()}


_Source = ClipSource | ChainedSource


class ClipSink(ByteSink, Protocol):
    """A file that a clip is written to."""

    def rewrite(self, offset: int, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class CutPictures:
    """The number of a clip's pictures that are copied from the recording, and of those that are encoded
    again."""

    copied: int
    encoded: int


def cut(parts: Sequence[ClipPart], span: Span, sink: ClipSink, is_stopped: Callable[[], bool]) -> CutPictures:
    """Writes the clip to `sink`, an MP4 in fragments (media.plain_mp4 makes it plain). `parts` follow
    one another. Blocking; returns early once `is_stopped`. Raises EgressError, FFmpegError and OSError."""
    source = ClipSource(parts[0]) if len(parts) == 1 else ChainedSource(parts)
    try:
        return _Cutting(source, CLIP_CONTAINER[parts[0].container], span, sink).run(is_stopped)
    finally:
        source.close()


class _Cutting:
    def __init__(self, source: _Source, container: Container, span: Span, sink: ClipSink) -> None:
        self._source = source
        self._span = span
        self._writer = _ClipWriter(container, sink, source)
        self._pictures: PictureCut | None = None
        self._sound: SoundCut | None = None
        if source.video_codec is not None:
            encode = Edge(source.video_codec).encoded
            self._pictures = PictureCut(span.begin_ns, span.end_ns, encode, reorders=source.reorders)
        if source.audio_codec is not None:
            preroll_ns = PREROLL_NS.get(source.audio_codec, 0) if container is Container.MP4 else 0
            self._sound = SoundCut(span.begin_ns, span.end_ns, preroll_ns)
        if self._pictures is None and self._sound is None:
            raise invalid("the recording has neither pictures nor sound that can be cut")

    def run(self, is_stopped: Callable[[], bool]) -> CutPictures:
        for packet in self._source.packets(max(0, self._span.begin_ns - SEEK_BEFORE_NS)):
            if is_stopped() or self._is_over():
                break
            match packet.kind:
                case MediaKind.VIDEO if self._pictures is not None:
                    self._write(self._pictures.take(packet))
                case MediaKind.AUDIO if self._sound is not None:
                    self._write(self._sound.take(packet))
        if self._pictures is not None and not self._pictures.is_over:
            self._write(self._pictures.finish())
        self._writer.close()
        pictures = self._pictures
        return CutPictures(pictures.copied, pictures.encoded) if pictures is not None else CutPictures(0, 0)

    def _write(self, packets: list[Packet]) -> None:
        for packet in packets:
            self._writer.write(packet)

    def _is_over(self) -> bool:
        cuts = [each for each in (self._pictures, self._sound) if each is not None]
        return all(each.is_over for each in cuts)


class _ClipWriter:
    """Writes a clip once it knows the streams; pictures reveal their own format."""

    def __init__(self, container: Container, sink: ClipSink, source: _Source) -> None:
        self._container = container
        self._sink = sink
        self._source = source
        self._waiting: list[Packet] = []
        self._waiting_bytes = 0
        self._awaited = {
            kind
            for kind, codec in (
                (MediaKind.VIDEO, source.video_codec),
                (MediaKind.AUDIO, source.audio_codec),
            )
            if codec is not None
        }
        self._muxer: FragmentWriter | ClusterWriter | Muxer | None = None

    def write(self, packet: Packet) -> None:
        if self._muxer is not None:
            self._muxer.write(packet)
            return
        self._waiting.append(packet)
        self._waiting_bytes += len(packet.data)
        self._awaited.discard(packet.kind)
        if not self._awaited or self._waiting_bytes > _MAX_WAITING_BYTES:
            self._begin()

    def close(self) -> None:
        """Writes the rest. Raises EgressError if nothing was written."""
        if self._muxer is None:
            if not self._waiting:
                raise EgressError(
                    invalid("").code, "nothing was recorded in that span", phase=Phase.RECORDING
                )
            self._begin()
        assert self._muxer is not None
        self._muxer.close()

    def _begin(self) -> None:
        formats: list[StreamFormat] = []
        first = next((each for each in self._waiting if each.kind is MediaKind.VIDEO), None)
        if first is not None and isinstance(codec := self._source.video_codec, VideoCodec):
            formats.append(video_format(codec, first.data, *self._source.stored_size))
        if any(each.kind is MediaKind.AUDIO for each in self._waiting):
            formats.append(self._source.audio_format())
        self._muxer = self._made(formats)
        self._muxer.open()
        # Sorted by time: a fragment holds half a second of all tracks.
        waiting, self._waiting = sorted(self._waiting, key=_dts_ns), []
        for packet in waiting:
            self._muxer.write(packet)

    def _made(self, formats: list[StreamFormat]) -> FragmentWriter | ClusterWriter | Muxer:
        match self._container:
            case Container.MP4:
                header = file_header(formats, _LEAD_NS)
                return FragmentWriter(self._sink.write, formats, header=header, lead_ns=_LEAD_NS)
            case Container.WEBM:
                return ClusterWriter(self._sink.write, formats, self._sink.rewrite)
            case Container.OGG | Container.MP3:
                return Muxer(self._sink, self._container, formats, _SOUND_OPTIONS[self._container])
            case _:
                raise internal(f"a clip cannot be a {self._container.value}")


def _dts_ns(packet: Packet) -> int:
    return packet.dts * S * packet.time_base.numerator // packet.time_base.denominator
