"""Packets of tracks as a room delivers them, and a disk that remembers how they were written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.file_track import FileTrack, codec_private
from openegress.media.passthrough import audio_format, video_format
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

STARTED_NS = 1_700_000_000 * S
SOUND = {AudioCodec.OPUS: b"\xf8\xff\xfe", AudioCodec.PCMU: bytes(160), AudioCodec.PCMA: bytes(160)}
FPS, BLOCKS = 30, 50
"""Pictures and packets of sound a second."""


@cache
def units(codec: VideoCodec, seconds: int = 2) -> list[tuple[bytes, bool]]:
    """Pictures with a key frame every second."""
    encoder = LiveEncoder(codec.value, 160, 96, FPS, 100)
    picture = Picture(PictureSpec(160, 96, FPS, COLOURS[0]))
    made = [encoder.encode(picture.draw(n), n, force_key=n % FPS == 0) for n in range(seconds * FPS)]
    return [(unit.data, unit.is_key) for unit in made]


def track_of(number: int, form: StreamFormat, name: str = "") -> FileTrack:
    tags = (("PARTICIPANT_IDENTITY", f"person-{number}"), ("TRACK_ID", f"TR_{number}"))
    return FileTrack(number, form, codec_private(form), name or f"Ada {form.codec.value}", tags)


def pictures(number: int, codec: VideoCodec, begin_s: float = 0.0) -> list[Packet]:
    made = units(codec)
    track = track_of(number, video_format(codec, made[0][0], 160, 96))
    first = round(begin_s * 90_000)
    return [
        Packet(MediaKind.VIDEO, data, at, at, 0, VIDEO_TIME_BASE, is_key, track)
        for n, (data, is_key) in enumerate(made)
        for at in (first + n * 3000,)
    ]


def sounds(number: int, codec: AudioCodec, begin_s: float = 0.0, seconds: float = 2.0) -> list[Packet]:
    form = audio_format(codec)
    track, step = track_of(number, form), form.sample_rate // BLOCKS
    first = round(begin_s * form.sample_rate)
    return [
        Packet(MediaKind.AUDIO, SOUND[codec], at, at, step, form.time_base, True, track)
        for at in range(first, first + round(seconds * BLOCKS) * step, step)
    ]


def by_time(*tracks: Sequence[Packet]) -> list[Packet]:
    return sorted((packet for track in tracks for packet in track), key=lambda packet: packet.pts_ns)


@dataclass
class Disk:
    """A file as a disk gets it: the writes, in order."""

    writes: list[tuple[int, bytes]] = field(default_factory=list)
    end: int = 0
    appended_bytes: int = 0
    """Bytes of everything written, up to the end of the last cluster."""

    def put(self, data: bytes) -> None:
        self.rewrite(self.end, data)
        self.end += len(data)
        self.appended_bytes = self.written_bytes

    def rewrite(self, at: int, data: bytes) -> None:
        self.writes.append((at, data))

    def after(self, written_bytes: int) -> bytes:
        """The file when this many bytes of it have arrived."""
        content = bytearray()
        for at, data in self.writes:
            arrived = data[:written_bytes]
            content[at : at + len(arrived)] = arrived
            written_bytes -= len(arrived)
            if not written_bytes:
                break
        return bytes(content)

    @property
    def written_bytes(self) -> int:
        return sum(len(data) for _, data in self.writes)

    @property
    def content(self) -> bytes:
        return self.after(self.written_bytes)


class PacketList:
    """A media.PacketSink."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def write(self, packet: Packet) -> None:
        self.packets.append(packet)
