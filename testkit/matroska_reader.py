"""Reads any file of many tracks, Matroska or MP4, with FFmpeg."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Stream

from openegress.core.codecs import MediaKind


@dataclass(frozen=True, slots=True)
class ReadPacket:
    at_s: float
    data: bytes
    is_key: bool


@dataclass(frozen=True, slots=True)
class ReadTrack:
    kind: MediaKind
    codec: str
    """FFmpeg's name."""
    title: str
    tags: Mapping[str, str]
    packets: tuple[ReadPacket, ...]


def read(path: Path) -> list[ReadTrack]:
    """In the order of the file. Raises FFmpegError if it cannot be read."""
    with av.open(str(path)) as container:
        packets: dict[int, list[ReadPacket]] = {stream.index: [] for stream in container.streams}
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                base = packet.time_base or Fraction(1, 1000)
                read_packet = ReadPacket(float(packet.pts * base), bytes(packet), packet.is_keyframe)
                packets[packet.stream_index].append(read_packet)
        return [
            ReadTrack(
                MediaKind(stream.type),
                stream.codec_context.name,
                title_of(stream),
                dict(stream.metadata),
                tuple(packets[stream.index]),
            )
            for stream in container.streams
        ]


def title_of(stream: Stream) -> str:
    """The title of a Matroska or MP4 track."""
    return stream.metadata.get("title") or stream.metadata.get("name", "")


def extract(path: Path, title: str, to: Path) -> Path:
    """Copies one track unchanged, with its times, into a file of its own."""
    with av.open(str(path)) as container, av.open(str(to), "w", format="matroska") as copy:
        (stream,) = (each for each in container.streams if title_of(each) == title)
        out = copy.add_stream_from_template(stream, opaque=True)
        for packet in container.demux(stream):
            if packet.dts is not None or packet.pts is not None:
                packet.stream = out
                copy.mux(packet)
    return to
