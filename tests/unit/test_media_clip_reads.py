"""How much of a long recording of all tracks is read for a short clip of it."""

from fractions import Fraction

import pytest

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.clip.clipped_tracks import ClippedTracks
from openegress.media.clip.matroska_source import MatroskaTracks
from openegress.media.clip.mcap_source import McapTracks
from openegress.media.file_track import FileTrack, codec_private
from openegress.media.matroska import MatroskaWriter
from openegress.media.mcap import McapWriter
from openegress.media.passthrough import audio_format

LENGTH_S, BEGIN_S, END_S = 600, 10, 12


class Counted:
    """A file in memory, larger than what a reader keeps of it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.read = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def rewrite(self, at: int, data: bytes) -> None:
        self.data[at : at + len(data)] = data

    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        found = bytes(self.data[offset : offset + size])
        self.read += len(found)
        return found


def voice(number: int) -> Packet:
    form = audio_format(AudioCodec.OPUS)
    track = FileTrack(1, form, codec_private(form), "voice", (("PARTICIPANT_IDENTITY", "ada"),))
    at = 960 * number
    return Packet(MediaKind.AUDIO, bytes(800), at, at, 960, Fraction(1, 48_000), True, track)


def opened(container: str, file: Counted) -> ClippedTracks:
    writer: MatroskaWriter | McapWriter
    if container == "mkv":
        writer = MatroskaWriter(file.write, file.rewrite, 0)
    else:
        writer = McapWriter(file.write, 0)
    writer.open()
    for number in range(50 * LENGTH_S):
        writer.write(voice(number))
    writer.close()
    return MatroskaTracks(file) if container == "mkv" else McapTracks(file)


@pytest.mark.parametrize("container", ["mkv", "mcap"])
def test_of_a_recording_without_pictures_only_the_clip_is_read(container: str) -> None:
    """Without any that tells where the search for key frames may end."""
    file = Counted()
    tracks = opened(container, file)
    file.read = 0
    found = list(tracks.packets(BEGIN_S * S, END_S * S))
    assert len(found) >= 50 * (END_S - BEGIN_S)
    assert file.read < len(file.data) // 10
