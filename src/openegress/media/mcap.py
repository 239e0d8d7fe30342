"""Writes all tracks of a room into one MCAP file (https://mcap.dev/spec) as they come and go.

Each track is a channel, and each picture and each sound packet a message. So is data that participants send,
with a channel for each participant's topic. Nothing is ever rewritten. Media follows in complete chunks, each
preceded by its new channels, so that a reader that starts at the beginning reads the file at any instant. The
summary, which other readers need, is added at the end (media.mcap_index).
"""

import logging
from collections.abc import Callable

from openegress.core.codecs import MediaKind
from openegress.media import Packet
from openegress.media.clusters import CLUSTER_NS
from openegress.media.file_track import DataTopic, FileTrack
from openegress.media.mcap_records import (
    MAGIC,
    MAX_CHANNEL,
    MessagePlace,
    channel,
    chunk,
    header,
    message,
    message_indexes,
    metadata,
)
from openegress.media.mcap_schemas import DATA_NUMBER, ENCODING, SCHEMA_BY_KIND, data_schema
from openegress.media.meeting_track import as_stored, identity_as_stored

RECORDING = "recording"
"""Name of the file's own metadata."""
STARTED_AT = "started_at_ns"
"""The key in that metadata for the unix ns of media time zero."""

_log = logging.getLogger(__name__)


class McapWriter:
    """Takes packets and writes bytes: `put` appends. One writer belongs to one thread. Exceptions of `put`
    come out of write(), flush() and close().

    A packet names its track in `track`; the first packet of a track adds the channel. Packets of a track come
    in decode order, and keep it.
    """

    def __init__(self, put: Callable[[bytes], object], started_at_ns: int) -> None:
        """`started_at_ns`: unix ns of media time zero."""
        self._put = put
        self._started_at_ns = started_at_ns
        told = metadata(RECORDING, {STARTED_AT: str(started_at_ns)})
        self._before = [MAGIC + header() + told]
        """What precedes the next chunk: a file without media is empty."""
        self._messages: list[bytes] = []
        self._places: list[MessagePlace] = []
        self._size_bytes = 0
        """Total size of the messages in the chunk."""
        self._begun_ns: dict[int, int] = {}
        """The first time of each track in this chunk."""
        self._counts: dict[int, int] = {}
        """Number of messages of each track in the file."""
        self._topics: set[str] = set()
        self._schemas: set[MediaKind] = set()
        self._is_full = False
        """Whether a track found no channel left."""

    def open(self) -> None:
        """Writes nothing: the head goes out with the first media."""

    def write(self, packet: Packet) -> None:
        """Takes a packet, and first writes the previous chunk if it is long enough. Ignores a packet without
        a track."""
        of = packet.track or packet.topic
        if of is None or not self._has_channel(of.number):
            return
        at_ns = self._started_at_ns + max(0, packet.pts_ns)
        begun_ns = self._begun_ns.setdefault(of.number, at_ns)
        if at_ns - begun_ns >= CLUSTER_NS:
            self.flush()
            self._begun_ns[of.number] = at_ns
        if of.number not in self._counts:
            self._announce(of)
        data = packet.data
        if isinstance(of, FileTrack):
            data = SCHEMA_BY_KIND[packet.kind].message(at_ns, data, of.form.codec.value)
        written = message(of.number, self._counts[of.number], at_ns, data)
        self._places.append((of.number, at_ns, self._size_bytes))
        self._messages.append(written)
        self._size_bytes += len(written)
        self._counts[of.number] += 1

    def flush(self) -> None:
        """Writes what has arrived as a chunk."""
        if not self._messages:
            return
        before, messages, places = b"".join(self._before), b"".join(self._messages), self._places
        self._before, self._messages, self._places, self._size_bytes = [], [], [], 0
        self._begun_ns.clear()
        self._put(before + chunk(messages, places) + message_indexes(places))

    def close(self) -> None:
        """Writes what has arrived, but not the summary."""
        self.flush()

    def abandon(self) -> None:
        """Stops without writing anything more."""
        self._messages, self._places, self._size_bytes = [], [], 0

    def _has_channel(self, number: int) -> bool:
        if number <= MAX_CHANNEL:
            return True
        if not self._is_full:
            self._is_full = True
            _log.warning("the file has no room for more tracks: further ones are left out")
        return False

    def _announce(self, of: FileTrack | DataTopic) -> None:
        if isinstance(of, FileTrack):
            kind, told = of.form.kind, _metadata(of)
            schema, number = SCHEMA_BY_KIND[kind].record, SCHEMA_BY_KIND[kind].number
            tags = dict(of.stored_tags)
            topic = _topic(tags.get("PARTICIPANT_IDENTITY", ""), tags.get("TRACK_SOURCE", ""))
        else:
            kind, told, schema, number = MediaKind.DATA, _data_metadata(of), data_schema(), DATA_NUMBER
            topic = _topic(
                identity_as_stored(of.identity) or "server", "data", *([of.topic] if of.topic else [])
            )
        if kind not in self._schemas:
            self._schemas.add(kind)
            self._before.append(schema)
        if topic in self._topics:
            # No two channels share a topic, because readers merge those that do.
            topic = f"{topic}/{of.number}"
        self._topics.add(topic)
        self._before.append(channel(of.number, number, topic, ENCODING, told))
        self._counts[of.number] = 0


def _topic(*parts: str) -> str:
    return "/" + "/".join(as_stored(each) or "unknown" for each in parts)


def _data_metadata(of: DataTopic) -> dict[str, str]:
    kind = MediaKind.DATA.value
    values = {"participant_identity": identity_as_stored(of.identity), "topic": as_stored(of.topic)}
    return {"kind": kind} | {name: value for name, value in values.items() if value}


def _metadata(track: FileTrack) -> dict[str, str]:
    form = track.form
    values = {"name": as_stored(track.name), "kind": form.kind.value, "codec": form.codec.value}
    values |= {name.lower(): value for name, value in track.stored_tags if value}
    if form.kind is MediaKind.VIDEO:
        return values | {"width": str(form.width), "height": str(form.height)}
    return values | {"sample_rate": str(form.sample_rate), "channels": str(form.channels)}
