"""Describes one of many tracks of a recording for its file: codec parameters, name and publisher."""

import struct
from dataclasses import dataclass

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.errors import internal
from openegress.media import StreamFormat
from openegress.media.meeting_track import as_stored, identity_as_stored
from openegress.media.mp4 import children
from openegress.media.sample_entry import VISUAL_ENTRY_BYTES, sample_entry

IDENTITY = "PARTICIPANT_IDENTITY"
"""The tag that names a track's participant."""

_CONFIGURATION: dict[AudioCodec | VideoCodec, bytes] = {
    VideoCodec.H264: b"avcC",
    VideoCodec.H265: b"hvcC",
    VideoCodec.AV1: b"av1C",
}
_WAVE_FORMAT: dict[AudioCodec | VideoCodec, int] = {AudioCodec.PCMU: 7, AudioCodec.PCMA: 6}


@dataclass(frozen=True, slots=True)
class FileTrack:
    number: int
    """Track number, from 1 in order of appearance."""
    form: StreamFormat
    codec_private: bytes
    """What a decoder needs outside the media (RFC 9559 section 5.1.4.1.23)."""
    name: str
    """The name that players show."""
    tags: tuple[tuple[str, str], ...] = ()
    """Tags as (name, value)."""

    @property
    def stored_tags(self) -> tuple[tuple[str, str], ...]:
        """The tags as the file stores them: their length is bounded, and different identities stay
        different."""
        return tuple(
            (name, identity_as_stored(value) if name == IDENTITY else as_stored(value))
            for name, value in self.tags
        )


@dataclass(frozen=True, slots=True)
class DataTopic:
    """Data that one participant sends on one topic."""

    number: int
    """Its number among the file tracks."""
    identity: str
    """Identity of the sender; empty: the server."""
    topic: str


def codec_private(form: StreamFormat) -> bytes:
    """Returns the codec private data that Matroska's codec mapping requires (RFC 9559 section 8,
    draft-ietf-cellar-codec).

    For Opus it states no pre-skip (RFC 7845 section 5.1), because the room heard the beginning too. Raises
    EgressError or FFmpegError if a key frame lacks parameters.
    """
    match form.codec:
        case AudioCodec.OPUS:
            return b"OpusHead" + struct.pack("<BBHIHB", 1, form.channels, 0, form.sample_rate, 0, 0)
        case AudioCodec.PCMU | AudioCodec.PCMA as codec:
            rate = form.sample_rate
            return struct.pack("<HHIIHHH", _WAVE_FORMAT[codec], 1, rate, rate, 1, 8, 0)
        case VideoCodec.H264 | VideoCodec.H265 | VideoCodec.AV1 as codec:
            entry = sample_entry(form)
            for kind, at, size in children(entry, VISUAL_ENTRY_BYTES, len(entry)):
                if kind == _CONFIGURATION[codec]:
                    return entry[at + 8 : at + size]
            raise internal(f"FFmpeg wrote no {_CONFIGURATION[codec].decode()} box")
        case _:
            return b""
