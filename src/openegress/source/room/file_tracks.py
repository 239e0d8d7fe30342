"""The tracks of a recording's file: numbered, named after their publishers, and bounded in number."""

import logging
from collections import Counter

from av.error import FFmpegError

from openegress.core.codecs import MediaKind
from openegress.core.errors import EgressError
from openegress.core.text import shown
from openegress.media import StreamFormat
from openegress.media.file_track import DataTopic, FileTrack, codec_private
from openegress.room import Track, TrackSource

MAX_PER_PARTICIPANT = 60
"""Limit per participant: a file has room for some hundred tracks, and republishing must not use them up."""

MAX_TOPICS = 60
"""Limit for one participant's topics; data with further topics goes to the topic ""."""

MAX_PRIVATE_BYTES = 8 * 1024
"""Limit for codec parameters beside the media, per participant: a picture track needs some hundred bytes.
Parameter sets may have any size, and all tracks share the head of the file."""

_log = logging.getLogger(__name__)


class FileTracks:
    """The tracks of one recording."""

    def __init__(self) -> None:
        self._count = 0
        self._made: Counter[str] = Counter()
        """The number of tracks, by identity."""
        self._private_bytes: Counter[str] = Counter()
        """The size of codec parameters, by identity."""
        self._over: set[str] = set()
        """Participants who exceed the limit."""
        self._topics: dict[str, dict[str, DataTopic]] = {}
        """The data topics, by identity and topic."""

    def make(self, track: Track, form: StreamFormat) -> FileTrack | None:
        """Makes a file track. None: its format cannot be described, or its publisher has too many tracks."""
        identity = track.participant.identity
        if self._made[identity] >= MAX_PER_PARTICIPANT:
            if identity not in self._over:
                _log.warning("%s has %d tracks in the file: no more", shown(identity), MAX_PER_PARTICIPANT)
            self._over.add(identity)
            return None
        try:
            private = codec_private(form)
        except (EgressError, FFmpegError) as error:
            _log.warning("a format of track %s cannot be described: %s", shown(track.sid), error)
            return None
        if self._private_bytes[identity] + len(private) > MAX_PRIVATE_BYTES:
            _log.warning("a format of track %s takes %d bytes to describe", shown(track.sid), len(private))
            return None
        self._private_bytes[identity] += len(private)
        self._made[identity] += 1
        self._count += 1
        return FileTrack(self._count, form, private, title_of(track), tags_of(track))

    def topic(self, identity: str, topic: str) -> DataTopic:
        known = self._topics.setdefault(identity, {})
        if topic not in known and len(known) >= MAX_TOPICS:
            topic = ""
        if topic not in known:
            self._count += 1
            known[topic] = DataTopic(self._count, identity, topic)
        return known[topic]


def title_of(track: Track) -> str:
    """A title such as "Ada (camera)"."""
    what = track.source.value.replace("_", " ")
    if track.source is TrackSource.UNKNOWN:
        what = track.name or ("picture" if track.kind is MediaKind.VIDEO else "sound")
    return f"{track.participant.name or track.participant.identity} ({what})"


def tags_of(track: Track) -> tuple[tuple[str, str], ...]:
    return (
        ("PARTICIPANT_IDENTITY", track.participant.identity),
        ("PARTICIPANT_NAME", track.participant.name),
        ("TRACK_ID", track.sid),
        ("TRACK_NAME", track.name),
        ("TRACK_SOURCE", track.source.value),
    )
