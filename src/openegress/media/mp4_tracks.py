"""Writes all tracks of a room into one fragmented MP4 as they come and go.

The head has room for later tracks (media.mp4_head), and media follows in fragments that are each complete
(media.fragments): the file plays at any instant. It becomes a plain MP4 at the end.
"""

import logging
from collections.abc import Callable

from av.error import FFmpegError

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.errors import EgressError
from openegress.core.text import shown
from openegress.media import Packet, StreamFormat
from openegress.media.file_track import FileTrack
from openegress.media.fragments import EMPTY_TABLES, FragmentWriter, trex
from openegress.media.meeting_track import as_stored
from openegress.media.movie import TrackHead, TrackNames, trak
from openegress.media.mp4_head import MAX_TRACKS, TREX_BYTES, Rewrite, head, in_slots
from openegress.media.sample_entry import sample_entry

_log = logging.getLogger(__name__)

TAKEN: tuple[AudioCodec | VideoCodec, ...] = (
    AudioCodec.OPUS,
    AudioCodec.AAC,
    VideoCodec.H264,
    VideoCodec.H265,
    VideoCodec.AV1,
    VideoCodec.VP9,
    VideoCodec.VP8,
)
"""Codecs that MP4 can hold: everything a room sends except G.711. VP8 and VP9 follow the VP Codec ISO Media
File Format Binding."""


class Mp4TracksWriter:
    """Takes packets and writes bytes: `put` appends, `rewrite` changes what is there. One writer belongs to
    one thread. Exceptions of either come out of write(), flush() and close().

    A packet names its track in `track`; the first packet of a track adds it to the head. Packets of a track
    come in decode order. A track that MP4 cannot hold, or that the head has no room for, is left out.
    """

    def __init__(self, put: Callable[[bytes], object], rewrite: Rewrite) -> None:
        self._put = put
        self._rewrite = rewrite
        start, self._traks, self._trexes = head()
        self._unwritten = bytearray(start)
        """The head, which goes out with the first fragment: a file without media is empty."""
        self._fragments = FragmentWriter(self._append, [], header=start)
        self._numbers: dict[int, int] = {}
        """Track numbers in the file, by number of the file track; 0: the track is left out."""

    def open(self) -> None:
        """Writes nothing: the head goes out with the first media."""

    def write(self, packet: Packet) -> None:
        """Takes a packet, and first writes the previous fragment if it is long enough. Ignores a packet
        without a track."""
        track = packet.track
        if track is None:
            return
        if track.number not in self._numbers:
            self._numbers[track.number] = self._reveal(track)
        self._fragments.write(packet)

    def flush(self) -> None:
        """Writes what has arrived as a fragment."""
        self._fragments.flush()

    def close(self) -> None:
        """Writes what has arrived. There is no trailer."""
        self._fragments.close()

    def abandon(self) -> None:
        """Stops without writing anything more."""
        self._fragments.abandon()

    def _append(self, fragment: bytes) -> None:
        start, self._unwritten = bytes(self._unwritten), bytearray()
        self._put(start + fragment)

    def _reveal(self, track: FileTrack) -> int:
        """Adds the track to the head. Returns its number in the file, or 0."""
        form, name = track.form, shown(track.name)
        if form.codec not in TAKEN:
            _log.warning("%s is left out: MP4 cannot hold %s; name the file .mkv", name, form.codec.value)
            return 0
        number = 1 + max(self._numbers.values(), default=0)
        try:
            entry = described(form)
        except (EgressError, FFmpegError) as error:
            _log.warning("%s is left out: it cannot be described: %s", name, error)
            return 0
        told = TrackHead(number, form.kind, form.time_base.denominator, [entry], names=names_of(track))
        made = in_slots(trak(told, EMPTY_TABLES))
        has_room = number <= MAX_TRACKS and self._trexes.takes(TREX_BYTES) and self._traks.takes(len(made))
        if not has_room:
            _log.warning("%s is left out: the file has no room for more tracks", name)
            return 0
        self._trexes.reveal(trex(number, form.kind), self._change)
        self._traks.reveal(made, self._change)
        self._fragments.add(track.number, number, form)
        return number

    def _change(self, at: int, data: bytes) -> None:
        if self._unwritten:
            self._unwritten[at : at + len(data)] = data
        else:
            self._rewrite(at, data)


def described(form: StreamFormat) -> bytes:
    """Builds the sample entry of a track. Raises EgressError or FFmpegError."""
    match form.codec:
        case AudioCodec.OPUS:
            # It states no pre-skip, because the room heard the beginning too.
            entry = sample_entry(form)
            at = entry.index(b"dOps") + 6  # Opus in ISOBMFF 4.3.2: version, channels, PreSkip
            return entry[:at] + bytes(2) + entry[at + 2 :]
        case _:
            return sample_entry(form)


def names_of(track: FileTrack) -> TrackNames:
    """Returns the names that players show, and that identify the track's participant."""
    tags = dict(track.stored_tags)
    parts = (tags.get("PARTICIPANT_IDENTITY", ""), tags.get("TRACK_SOURCE", ""))
    return TrackNames(as_stored(track.name), "/".join(each or "unknown" for each in parts))
