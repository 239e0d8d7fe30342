"""Opens the source of a clip: its streams, and their packets on the recording's timeline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import IO, cast

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet as FileBlock
from av.stream import Stream

from openegress.core.codecs import AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.errors import EgressError, invalid
from openegress.core.plan import AudioEncoding
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.clip import common_end_ns
from openegress.media.clip.clipped_tracks import ClippedTracks
from openegress.media.clip.stitched import Stitched
from openegress.media.encoder import AudioEncoder

VIDEO_CODECS: dict[str, VideoCodec] = {
    "h264": VideoCodec.H264,
    "hevc": VideoCodec.H265,
    "vp8": VideoCodec.VP8,
    "vp9": VideoCodec.VP9,
    "av1": VideoCodec.AV1,
    "libdav1d": VideoCodec.AV1,
}
AUDIO_CODECS: dict[str, AudioCodec] = {
    "aac": AudioCodec.AAC,
    "opus": AudioCodec.OPUS,
    "libopus": AudioCodec.OPUS,
    "mp3": AudioCodec.MP3,
    "mp3float": AudioCodec.MP3,
}
TO_ANNEX_B = {VideoCodec.H264: "h264_mp4toannexb", VideoCodec.H265: "hevc_mp4toannexb"}
_FORMAT = {
    Container.MP4: "mp4",
    Container.FMP4: "mp4",
    Container.WEBM: "matroska",
    Container.OGG: "ogg",
    Container.MP3: "mp3",
    Container.TS: "mpegts",
}
CLIPPED = tuple(_FORMAT)
"""Containers that clips can be cut from."""
_TS_WRAP = 1 << 33
"""Range of a time in an MPEG-TS, at 90 kHz (ISO/IEC 13818-1 2.4.3.7)."""
_ADTS_HEADER, _ADTS_CRC = 7, 2
"""Sizes in bytes (ISO/IEC 13818-7 6.2)."""


@dataclass(frozen=True, slots=True)
class ClipPart:
    """Bytes that can be read as one file, and that hold the span and everything it needs."""

    container: Container
    file: Stitched
    late_ns: int = 0
    """Its times minus those of the recording."""
    is_indexed: bool = False
    """Whether seeking works without reading everything before."""
    begin_ns: int = 0
    """Approximate start on the timeline: TS time wraps after 26.5 hours."""
    tracks: ClippedTracks | None = None
    """The tracks of a recording of all tracks of a room."""


class ClipSource:
    """An open source. Close it after use. Methods raise EgressError if it cannot be read, and anything the
    file raises."""

    def __init__(self, part: ClipPart) -> None:
        self._part = part
        with reading():
            self._container = cast(
                InputContainer,
                av.open(
                    cast("IO[bytes]", part.file), format=_FORMAT[part.container], metadata_errors="replace"
                ),
            )
        self._video = next(iter(self._container.streams.video), None)
        self._audio = next(iter(self._container.streams.audio), None)
        self.video_codec = _codec(self._video, VIDEO_CODECS)
        self.audio_codec = _codec(self._audio, AUDIO_CODECS)

    @property
    def duration_ns(self) -> int:
        """Duration stated in its header; 0 if there is none."""
        return (self._container.duration or 0) * 1000

    @property
    def reorders(self) -> bool:
        """Whether decoding order differs from display order."""
        return self._video is not None and bool(self._video.codec_context.reorder_depth)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Picture size stated in its header; zeros if there is none."""
        if self._video is None:
            return 0, 0
        return self._video.codec_context.width, self._video.codec_context.height

    def audio_format(self) -> StreamFormat:
        """The format in which sound goes into a container unchanged."""
        assert self._audio is not None and self.audio_codec is not None
        context = self._audio.codec_context
        # FFmpeg's MP3 decoder has a name that no encoder has; MP3 needs no parameters outside the stream.
        template: Stream | None = self._audio if self.audio_codec is not AudioCodec.MP3 else None
        if self._part.container is Container.TS:
            # An ADTS stream has no parameters outside it; our encoder's would be different.
            encoding = AudioEncoding(AudioCodec.AAC, 128, context.sample_rate, context.channels)
            template = AudioEncoder(encoding).format.template
        return StreamFormat(
            MediaKind.AUDIO,
            self.audio_codec,
            Fraction(1, context.sample_rate),
            template,
            kbps=0,
            sample_rate=context.sample_rate,
            channels=context.channels,
        )

    def packets(self, begin_ns: int) -> Iterator[Packet]:
        """Returns packets from the key frame before `begin_ns` or earlier, in file order. H264 and H265 have
        start codes, and parameter sets before each key frame."""
        at_us = (begin_ns + self._part.late_ns) // 1000
        # FFmpeg moves sound to where the pictures go: before the first of them it is read from its beginning.
        if self._part.is_indexed and begin_ns > 0 and at_us > self._first_picture_us:
            with reading():
                self._container.seek(at_us, backward=True)
        streams: list[Stream] = [each for each in (self._video, self._audio) if each is not None]
        convert = self._converter()
        shifts: dict[int, int] = {}
        for block in self._blocks(streams):
            if block.pts is None or not block.size:
                continue
            if block.stream_index not in shifts:
                shifts[block.stream_index] = self._shift(block)
            if self._audio is not None and block.stream_index == self._audio.index:
                yield _packet(block, MediaKind.AUDIO, self._sound(block), shifts[block.stream_index])
                continue
            # A filter consumes its input.
            told = _packet(block, MediaKind.VIDEO, b"", shifts[block.stream_index])
            with reading():
                made = convert(block)
            for each in made:
                yield replace(told, data=bytes(each))

    def close(self) -> None:
        self._container.close()

    @property
    def _first_picture_us(self) -> int:
        return starts_ns(self._video) // 1000 if self._video is not None else 0

    def _blocks(self, streams: list[Stream]) -> "Iterator[FileBlock[Stream]]":
        try:
            yield from self._container.demux(streams)
        except (FFmpegError, ValueError) as error:
            if isinstance(error, EOFError):
                return
            raise _unreadable(error) from error

    def _converter(self) -> "Callable[[FileBlock[Stream]], list[FileBlock[Stream]]]":
        name = TO_ANNEX_B.get(self.video_codec) if self.video_codec is not None else None
        if name is None or self._video is None or self._part.container is Container.TS:
            return lambda block: [block]
        with reading():
            return BitStreamFilterContext(name, self._video).filter

    def _sound(self, block: "FileBlock[Stream]") -> bytes:
        data = bytes(block)
        if self._part.container is not Container.TS or data[:1] != b"\xff" or len(data) < _ADTS_HEADER:
            return data
        return data[_ADTS_HEADER + (0 if data[1] & 1 else _ADTS_CRC) :]

    def _shift(self, block: "FileBlock[Stream]") -> int:
        """The shift from a stream's times to the recording's, in the stream's time base."""
        shift = -_in_ticks(self._part.late_ns, block.time_base)
        if self._part.container is Container.TS and block.pts is not None:
            expected = _in_ticks(self._part.begin_ns, block.time_base)
            shift += _TS_WRAP * round((expected - (block.pts + shift)) / _TS_WRAP)
        return shift


def _packet(block: "FileBlock[Stream]", kind: MediaKind, data: bytes, shift: int) -> Packet:
    assert block.pts is not None
    dts = block.dts if block.dts is not None else block.pts
    return Packet(
        kind,
        data,
        block.pts + shift,
        dts + shift,
        block.duration or 0,
        block.time_base,
        bool(block.is_keyframe),
    )


def end_ns(source: ClipSource) -> int:
    """Returns the time up to which all streams have packets. Reads the whole file."""
    ends: dict[MediaKind, int] = {}
    for packet in source.packets(0):
        ticks = packet.pts + packet.duration
        at_ns = ticks * S * packet.time_base.numerator // packet.time_base.denominator
        ends[packet.kind] = max(ends.get(packet.kind, 0), at_ns)
    return common_end_ns(ends.values())


def _codec(stream: Stream | None, known: dict[str, VideoCodec] | dict[str, AudioCodec]):  # type: ignore[no-untyped-def]
    if stream is None:
        return None
    name = stream.codec_context.name if stream.codec_context is not None else ""
    codec = known.get(name)
    if codec is None:
        raise invalid(f'a clip cannot be cut from a recording in "{name or "an unknown codec"}"')
    return codec


def starts_ns(stream: Stream) -> int:
    """The time of a stream's first packet in its file."""
    return round((stream.start_time or 0) * Fraction(stream.time_base or 0) * S)


def _in_ticks(ns: int, time_base: Fraction) -> int:
    return round(Fraction(ns, S) / time_base)


@contextmanager
def reading() -> Iterator[None]:
    """Converts FFmpeg's errors: raises EgressError if it cannot read the file."""
    try:
        yield
    except (FFmpegError, ValueError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> EgressError:
    return invalid(f"the recording cannot be read: {getattr(error, 'strerror', None) or error}")
