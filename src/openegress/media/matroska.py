"""Writes all tracks of a room into one Matroska file (RFC 9559) as they come and go.

FFmpeg's muxer must know every track before the first packet. Here the head has room for later tracks
(media.matroska_head), and media follows in clusters that are each complete (media.clusters): the file plays
at any instant. Index and duration are added at the end (media.cluster_index).
"""

import hashlib
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import MS
from openegress.media import Packet
from openegress.media.clusters import CLUSTER_NS, SimpleBlock, cluster
from openegress.media.ebml import element, number, text
from openegress.media.file_track import FileTrack
from openegress.media.fragments import sample
from openegress.media.matroska_head import Rewrite, head
from openegress.media.meeting_track import as_stored

CODEC_IDS: dict[AudioCodec | VideoCodec, str] = {
    AudioCodec.OPUS: "A_OPUS",
    AudioCodec.PCMU: "A_MS/ACM",
    AudioCodec.PCMA: "A_MS/ACM",
    VideoCodec.VP8: "V_VP8",
    VideoCodec.VP9: "V_VP9",
    VideoCodec.AV1: "V_AV1",
    VideoCodec.H264: "V_MPEG4/ISO/AVC",
    VideoCodec.H265: "V_MPEGH/ISO/HEVC",
}
SEEK_PRE_ROLL_NS = 80_000_000
"""Length of the sound that an Opus decoder needs before the audible part (RFC 7845 section 4.6)."""
MAX_SPAN_MS = 15_000
"""Limit for the time between a cluster's first packet and its others, earlier or later: a block has 16 bits
for it (section 10.1)."""

_log = logging.getLogger(__name__)

_VIDEO, _AUDIO = b"\x01", b"\x02"


@dataclass(slots=True)
class _Line:
    """A track of the file, whether or not the head had room for it."""

    is_in_head: bool
    newest_ms: int = -1
    cluster: int = -1
    """Number of the last cluster that holds media of this track."""
    begun_ms: int = 0
    """The track's first time in that cluster."""


class MatroskaWriter:
    """Takes packets and writes bytes: `put` appends, `rewrite` changes what is there. One writer belongs to
    one thread. Exceptions of either come out of write(), flush() and close().

    A packet names its track in `track`; the first packet of a track adds it to the head. Packets of a track
    come in decode order. A track for which the head has no room is left out.
    """

    def __init__(self, put: Callable[[bytes], object], rewrite: Rewrite, started_at_ns: int) -> None:
        """`started_at_ns`: unix ns of media time zero."""
        self._put = put
        self._rewrite = rewrite
        start, self._tracks, self._tags = head(started_at_ns)
        self._unwritten = bytearray(start)
        """The head, which goes out with the first cluster: a file without media is empty."""
        self._lines: dict[int, _Line] = {}
        self._blocks: list[SimpleBlock] = []
        self._clusters = 0
        self._is_full = False
        """Whether a track found no room."""

    def open(self) -> None:
        """Writes nothing: the head goes out with the first media."""

    def write(self, packet: Packet) -> None:
        """Takes a packet, and first writes the previous cluster if it is long enough. Ignores a packet
        without a track."""
        track = packet.track
        if track is None:
            return
        line = self._lines.get(track.number)
        if line is None:
            line = self._lines[track.number] = _Line(self._reveal(track))
        if not line.is_in_head:
            return
        at_ms = max(0, (packet.pts_ns + MS // 2) // MS)
        is_picture = packet.kind is MediaKind.VIDEO
        if is_picture and at_ms == line.newest_ms:
            at_ms += 1  # two pictures of the same millisecond are moved apart by one
        self._begin_cluster(line, at_ms)
        line.newest_ms = max(line.newest_ms, at_ms)
        data = sample(track.form, packet.data)
        self._blocks.append(SimpleBlock(track.number, at_ms, line.newest_ms, packet.is_key, data))

    def _begin_cluster(self, line: _Line, at_ms: int) -> None:
        """Begins a cluster if the current one is long enough for this track. Tracks may always be further
        apart than that, so each counts by itself."""
        is_long = line.cluster == self._clusters and (at_ms - line.begun_ms) * MS >= CLUSTER_NS
        if is_long or (self._blocks and abs(at_ms - self._blocks[0].at_ms) > MAX_SPAN_MS):
            self.flush()
        if line.cluster != self._clusters:
            line.cluster, line.begun_ms = self._clusters, at_ms

    def flush(self) -> None:
        """Writes what has arrived as a cluster."""
        if not self._blocks:
            return
        self._clusters += 1
        blocks, self._blocks = self._blocks, []
        start, self._unwritten = bytes(self._unwritten), bytearray()
        self._put(start + cluster(blocks))

    def close(self) -> None:
        """Writes what has arrived. There is no trailer."""
        self.flush()

    def abandon(self) -> None:
        """Stops without writing anything more."""
        self._blocks = []

    def _reveal(self, track: FileTrack) -> bool:
        if self._is_full:
            return False
        entry, tag = _entry(track), _tag(track)
        if not self._tracks.takes(entry) or not self._tags.takes(tag):
            self._is_full = True
            _log.warning("the file has no room for more tracks: further ones are left out")
            return False
        self._tags.reveal(tag, self._change)
        self._tracks.reveal(entry, self._change)
        return True

    def _change(self, at: int, data: bytes) -> None:
        if self._unwritten:
            self._unwritten[at : at + len(data)] = data
        else:
            self._rewrite(at, data)


def _entry(track: FileTrack) -> bytes:
    """Builds the content of a TrackEntry (section 5.1.4.1)."""
    form = track.form
    is_video = form.kind is MediaKind.VIDEO
    parts = [
        element(b"\xd7", track.number.to_bytes(2, "big")),  # TrackNumber
        number(b"\x73\xc5", _uid(track)),  # TrackUID
        element(b"\x83", _VIDEO if is_video else _AUDIO),  # TrackType
        element(b"\x9c", b"\x00"),  # FlagLacing
        text(b"\x22\xb5\x9c", "und"),  # Language
        text(b"\x53\x6e", as_stored(track.name)),  # Name
        text(b"\x86", CODEC_IDS[form.codec]),  # CodecID
    ]
    if track.codec_private:
        parts.append(element(b"\x63\xa2", track.codec_private))  # CodecPrivate
    if is_video:
        size = element(b"\xb0", form.width.to_bytes(4, "big")) + element(
            b"\xba", form.height.to_bytes(4, "big")
        )
        parts.append(element(b"\xe0", size))  # Video: PixelWidth, PixelHeight
    else:
        rate = element(b"\xb5", struct.pack(">d", form.sample_rate))
        parts.append(element(b"\xe1", rate + element(b"\x9f", bytes((form.channels,)))))  # Audio
    if form.codec is AudioCodec.OPUS:
        parts += [number(b"\x56\xaa", 0), number(b"\x56\xbb", SEEK_PRE_ROLL_NS)]  # CodecDelay, SeekPreRoll
    return b"".join(parts)


def _tag(track: FileTrack) -> bytes:
    """Builds the content of a Tag (section 5.1.8.1) of one track."""
    simple = [
        element(b"\x67\xc8", text(b"\x45\xa3", name) + text(b"\x44\x87", value))  # SimpleTag
        for name, value in track.stored_tags
        if value
    ]
    return element(b"\x63\xc0", number(b"\x63\xc5", _uid(track))) + b"".join(simple)  # Targets, TagTrackUID


def _uid(track: FileTrack) -> int:
    """Returns a UID that is not 0, and different in every recording (section 5.1.4.1.2)."""
    told = repr((track.number, track.name, track.tags)).encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") or 1
