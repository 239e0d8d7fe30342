"""Converts data channel packets for a file of tracks: they are stored whole and unchanged."""

from collections.abc import Sequence
from fractions import Fraction

from livekit.protocol.models import DataPacket

from openegress.core.codecs import MediaKind
from openegress.core.recent import Recent
from openegress.core.routes import DataRoute, takes_data
from openegress.core.units import S
from openegress.media import Packet
from openegress.room.events import DataArrived
from openegress.source.room.file_tracks import FileTracks

MAX_STREAMS = 256
"""Limit for open streams: beyond it, the oldest is forgotten."""
_TIME_BASE = Fraction(1, S)
_WITHOUT_TOPIC = {"chat_message": "lk.chat", "transcription": "lk.transcription"}
"""The kinds of packets of older SDKs, with the topics that replaced them."""


class RecordedData:
    """The data of one recording."""

    def __init__(self, routes: Sequence[DataRoute], tracks: FileTracks) -> None:
        self._routes = routes
        self._tracks = tracks
        self._streams: Recent[tuple[str, str], str] = Recent(MAX_STREAMS)
        """Topics of open streams, by sender and id."""
        self._held: list[DataArrived] = []
        """Data from before the beginning."""
        self._zero_ns: int | None = None

    def begin(self, zero_ns: int) -> list[Packet]:
        """Begins. Returns earlier data. `zero_ns`: unix ns of media time zero."""
        self._zero_ns = zero_ns
        held, self._held = self._held, []
        return [packet for each in held for packet in self.take(each)]

    def take(self, arrived: DataArrived) -> list[Packet]:
        """Takes data. Returns one packet, or none if it is not recorded."""
        if self._zero_ns is None:
            self._held.append(arrived)
            return []
        topic = self._topic_of(arrived.packet, arrived.identity)
        if topic is None or not takes_data(self._routes, arrived.identity, topic):
            return []
        of = self._tracks.topic(arrived.identity, topic)
        at_ns = max(0, arrived.at_ns - self._zero_ns)
        data = arrived.packet.SerializeToString()
        return [Packet(MediaKind.DATA, data, at_ns, at_ns, 0, _TIME_BASE, True, topic=of)]

    def _topic_of(self, packet: DataPacket, identity: str) -> str | None:
        """The topic of a packet. None: it has no topic, such as a call (RPC), or belongs to a stream whose
        beginning is not known."""
        # An agent sends a stream's beginning under the transcribed identity, and its pieces under its own.
        sender = packet.participant_sid or identity
        match packet.WhichOneof("value"):
            case "user":
                return packet.user.topic
            case "stream_header":
                header = packet.stream_header
                self._streams[sender, header.stream_id] = header.topic
                return header.topic
            case "stream_chunk":
                return self._streams.get((sender, packet.stream_chunk.stream_id))
            case "stream_trailer":
                return self._streams.pop((sender, packet.stream_trailer.stream_id), None)
            case "chat_message" | "transcription" as kind:
                return _WITHOUT_TOPIC[kind]
            case _:
                return None
