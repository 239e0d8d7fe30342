"""Turns what people send to a room into entries of the sidecars' log: chat, transcriptions, any data. Pure.

Text streams (`lk.chat`, `lk.transcription`) come in pieces; so do the transcriptions of agents, whose text
grows as it is spoken, or is replaced as it is understood better. Older SDKs send ChatMessage and
Transcription packets, and JSON of the topic `lk-chat-topic`.
"""

import base64
import codecs
import zlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from livekit.protocol.models import DataPacket, DataStream, Transcription

from openegress.core import foreign_json
from openegress.core.recent import Recent
from openegress.core.routes import DataRoute, takes_data
from openegress.output.sidecar.entries import (
    CHAT,
    DATA,
    MAX_CHARS,
    MAX_TEXT_CHARS,
    TRANSCRIPT,
    LogEntry,
)
from openegress.room.events import DataArrived

CHAT_TOPIC, OLD_CHAT_TOPIC = "lk.chat", "lk-chat-topic"
TRANSCRIPTION_TOPIC = "lk.transcription"
MAX_STREAMS = 256
"""Limit for open streams: the oldest is dropped."""
_COMPRESSIONS = (DataStream.CompressionType.NONE, DataStream.CompressionType.DEFLATE_RAW)
MAX_SEGMENTS = 50
"""Limit for the segments of one Transcription packet."""

_OPERATIONS = {number: name.lower() for name, number in DataStream.OperationType.items()}
"""Names of operations by number. Newer SDKs may have others."""
INCOMPLETE = "incomplete"
"""Field of chat and data: the end of the text never came."""
_SEGMENT, _FINAL = "lk.segment_id", "lk.transcription_final"
_TRACK = "lk.transcribed_track_id"
_LANGUAGE = "lk.transcription_language"


class _TextStream:
    """An open stream. Its text is UTF-8, and may be compressed (RFC 1951)."""

    def __init__(self, header: DataStream.Header, identity: str, sender: str, at_ns: int) -> None:
        self.header = header
        self.identity = identity
        self.sender = sender
        self.at_ns = at_ns
        self.segment = header.attributes.get(_SEGMENT, "") or header.stream_id
        self.text = ""
        self.is_broken = False
        """Whether the text was compressed, and cannot be read any further."""
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if header.compression else None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, content: bytes) -> str:
        """Adds to the text, which is cut if it is too long. Returns what was added. Raises zlib.error."""
        room_chars = MAX_TEXT_CHARS - len(self.text)
        if room_chars <= 0 or self.is_broken:
            return ""
        # Each character takes at least one byte: more is of no use, and compressed data could expand to
        # gigabytes.
        most_bytes = 4 * room_chars
        plain = self._inflate.decompress(content, most_bytes) if self._inflate else content[:most_bytes]
        added = self._decode.decode(plain)[:room_chars]
        self.text += added
        return added


class Conversation:
    """The conversation of one room."""

    def __init__(self, topics: Sequence[str] = (), routes: Sequence[DataRoute] = ()) -> None:
        """`topics`: patterns of the topics whose data is kept, as in fnmatch; none: all. `routes`: the
        senders and topics whose data is kept; none: all."""
        self._topics = topics
        self._routes = routes
        self._streams: Recent[tuple[str, str], _TextStream] = Recent(MAX_STREAMS)
        """Streams by sender and id."""

    def entries(self, arrived: DataArrived) -> list[LogEntry]:
        packet, identity, at_ns = arrived.packet, arrived.identity, arrived.at_ns
        # An agent sends a stream in the name of the person whom it transcribes, and its pieces in its own
        # name.
        sender = packet.participant_sid or identity
        match packet.WhichOneof("value"):
            case "stream_header":
                return self._begin(packet.stream_header, identity, sender, at_ns)
            case "stream_chunk":
                stream = self._streams.get((sender, packet.stream_chunk.stream_id))
                return [] if stream is None else self._add(stream, packet.stream_chunk.content, at_ns)
            case "stream_trailer":
                return self._end(packet.stream_trailer, sender, at_ns)
            case "transcription":
                return _transcribed(packet.transcription, sender, at_ns)
            case "chat_message":
                said = packet.chat_message
                operation = "delete" if said.deleted else "update" if said.edit_timestamp else "create"
                return [_said(at_ns, identity, said.id, said.message, operation)]
            case "user":
                return self._other(packet, identity, at_ns)
            case _:
                return []

    def rest(self) -> list[LogEntry]:
        """Returns the texts that were begun and not ended: their senders have left, or are still sending."""
        streams = [each for each in self._streams.values() if not each.is_broken]
        self._streams.clear()
        return [
            msgspec.structs.replace(said := _text(each), fields=said.fields | {INCOMPLETE: True})
            for each in streams
            if each.text and each.header.topic != TRANSCRIPTION_TOPIC
        ]

    def _begin(self, header: DataStream.Header, identity: str, sender: str, at_ns: int) -> list[LogEntry]:
        if header.WhichOneof("content_header") != "text_header" or header.compression not in _COMPRESSIONS:
            return []
        if header.topic not in (CHAT_TOPIC, TRANSCRIPTION_TOPIC) and not self._is_wanted(
            header.topic, identity
        ):
            return []
        stream = _TextStream(header, identity, sender, at_ns)
        self._streams[sender, header.stream_id] = stream
        told: list[LogEntry] = []
        if header.topic == TRANSCRIPTION_TOPIC:
            told.append(_segment(stream, at_ns, "", continues=False))
        if header.HasField("inline_content"):  # the whole text
            told += self._add(stream, header.inline_content, at_ns)
            told += self._end(DataStream.Trailer(stream_id=header.stream_id), sender, at_ns)
        return told

    def _add(self, stream: _TextStream, content: bytes, at_ns: int) -> list[LogEntry]:
        try:
            added = stream.add(content)
        except zlib.error:
            stream.is_broken = True
            return []
        if not added or stream.header.topic != TRANSCRIPTION_TOPIC:
            return []
        return [_segment(stream, at_ns, added, continues=True)]

    def _end(self, trailer: DataStream.Trailer, sender: str, at_ns: int) -> list[LogEntry]:
        stream = self._streams.pop((sender, trailer.stream_id), None)
        if stream is None or stream.is_broken:
            return []
        if stream.header.topic == TRANSCRIPTION_TOPIC:
            stream.header.attributes.update(trailer.attributes)
            return [_segment(stream, at_ns, "", continues=True)]
        return [_text(stream)]

    def _other(self, packet: DataPacket, identity: str, at_ns: int) -> list[LogEntry]:
        payload, topic = packet.user.payload, packet.user.topic
        if topic == OLD_CHAT_TOPIC:
            return _old_chat(payload, identity, at_ns)
        if not self._is_wanted(topic, identity):
            return []
        try:
            content = {"text": payload.decode()}
        except UnicodeDecodeError:
            content = {"base64": base64.b64encode(payload).decode()}
        return [_data(at_ns, identity, topic, content)]

    def _is_wanted(self, topic: str, identity: str) -> bool:
        if self._routes and not takes_data(self._routes, identity, topic):
            return False
        return not self._topics or any(fnmatchcase(topic, each) for each in self._topics)


def _text(stream: _TextStream) -> LogEntry:
    header, text, identity = stream.header, stream.text, stream.identity
    if header.topic != CHAT_TOPIC:
        return _data(stream.at_ns, identity, header.topic, {"text": text})
    operation = _OPERATIONS.get(header.text_header.operation_type, "create")
    return _said(
        stream.at_ns, identity, header.stream_id, text, operation, header.text_header.reply_to_stream_id
    )


def _said(
    at_ns: int, identity: str, number: str, message: str, operation: str, reply_to: str = ""
) -> LogEntry:
    fields = {
        "identity": identity[:MAX_CHARS],
        "id": number[:MAX_CHARS],
        "operation": operation,
        "message": message[:MAX_TEXT_CHARS],
    }
    return LogEntry(at_ns, CHAT, fields | ({"reply_to": reply_to[:MAX_CHARS]} if reply_to else {}))


def _old_chat(payload: bytes, identity: str, at_ns: int) -> list[LogEntry]:
    """Reads the JSON of LiveKit's components before text streams; today's components send it as well."""
    try:
        said: Any = foreign_json.loads(payload)
    except ValueError:
        return []
    if not isinstance(said, dict) or said.get("ignoreLegacy") or not isinstance(said.get("message"), str):
        return []
    operation = "update" if said.get("editTimestamp") else "create"
    number, message = _whole(str(said.get("id", ""))), _whole(said["message"])
    return [_said(at_ns, identity, number, message, operation)]


def _whole(text: str) -> str:
    """Replaces lone surrogates, which JSON can escape and no file can hold."""
    return text.encode(errors="replace").decode()


def _data(at_ns: int, identity: str, topic: str, content: dict[str, str]) -> LogEntry:
    return LogEntry(at_ns, DATA, {"identity": identity[:MAX_CHARS], "topic": topic[:MAX_CHARS]} | content)


def _segment(stream: _TextStream, at_ns: int, text: str, *, continues: bool) -> LogEntry:
    """Builds an entry. `continues`: `text` is appended to the segment's text; otherwise it replaces that."""
    attributes = stream.header.attributes
    return LogEntry(
        at_ns,
        TRANSCRIPT,
        {
            "identity": stream.identity[:MAX_CHARS],
            "sender": stream.sender[:MAX_CHARS],
            "segment": stream.segment[:MAX_CHARS],
            "text": text,
            "continues": continues,
            "final": attributes.get(_FINAL, "").lower() == "true",
            "track_id": attributes.get(_TRACK, "")[:MAX_CHARS],
            "language": attributes.get(_LANGUAGE, "")[:MAX_CHARS],
        },
    )


def _transcribed(told: Transcription, sender: str, at_ns: int) -> list[LogEntry]:
    return [
        LogEntry(
            at_ns,
            TRANSCRIPT,
            {
                "identity": told.transcribed_participant_identity[:MAX_CHARS],
                "sender": sender[:MAX_CHARS],
                "segment": each.id[:MAX_CHARS],
                "text": each.text[:MAX_TEXT_CHARS],
                "continues": False,
                "final": each.final,
                "track_id": told.track_id[:MAX_CHARS],
                "language": each.language[:MAX_CHARS],
            },
        )
        for each in told.segments[:MAX_SEGMENTS]
    ]
