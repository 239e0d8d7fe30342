"""Reads an MCAP file of tracks with its own library: from the beginning, torn or not, or by its summary."""

import contextlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap_protobuf.decoder import DecoderFactory

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from testkit.matroska_reader import ReadPacket, ReadTrack


def read(path: Path) -> list[ReadTrack]:
    """Reads to the end or the tear, in the order of the file. Times begin with the recording."""
    found: list[McapRecord] = []
    # The library's errors come from the part that is cut off; what came before is kept.
    with path.open("rb") as file, contextlib.suppress(McapError, struct.error):
        for each in StreamReader(file, validate_crcs=True).records:
            found.append(each)
    (told,) = (each for each in found if isinstance(each, Metadata))
    schemas = {each.id: each for each in found if isinstance(each, Schema)}
    channels = {each.id: each for each in found if isinstance(each, Channel)}
    messages = [each for each in found if isinstance(each, Message)]
    return _tracks(channels, schemas, messages, int(told.metadata["started_at_ns"]))


def read_by_summary(path: Path) -> list[ReadTrack]:
    """Like read(), for a complete file, with its messages by time."""
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        (told,) = reader.iter_metadata()
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        messages = [message for _, _, message in reader.iter_messages()]
        assert summary.statistics.message_count == len(messages)
        assert set(summary.statistics.channel_message_counts) == set(summary.channels)
        assert summary.statistics.chunk_count == len(summary.chunk_indexes)
        started_at_ns = int(told.metadata["started_at_ns"])
        return _tracks(summary.channels, summary.schemas, messages, started_at_ns)


@dataclass(frozen=True, slots=True)
class ReadData:
    """One packet of a data channel."""

    topic: str
    """The file's."""
    metadata: dict[str, str]
    at_ns: int
    """Unix ns."""
    packet: Any
    """A livekit.DataPacket, decoded by the schema in the file."""


def read_data(path: Path) -> list[ReadData]:
    """The data of a complete file, by time."""
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        return [
            ReadData(channel.topic, channel.metadata, message.log_time, packet)
            for schema, channel, message, packet in reader.iter_decoded_messages()
            if schema is not None and schema.name == "livekit.DataPacket"
        ]


def _tracks(
    channels: dict[int, Channel], schemas: dict[int, Schema], messages: Iterable[Message], started_at_ns: int
) -> list[ReadTrack]:
    channels = {n: each for n, each in channels.items() if each.metadata["kind"] != MediaKind.DATA}
    packets: dict[int, list[ReadPacket]] = {number: [] for number in channels}
    factory = DecoderFactory()
    for message in messages:
        if message.channel_id not in channels:
            continue
        channel = channels[message.channel_id]
        decode = factory.decoder_for(channel.message_encoding, schemas[channel.schema_id])
        assert decode is not None
        media = decode(message.data)
        at_ns = media.timestamp.seconds * S + media.timestamp.nanos
        assert at_ns == message.log_time == message.publish_time
        assert message.sequence == len(packets[channel.id])
        assert media.format == channel.metadata["codec"]
        is_key = _is_key(media.format, media.data)
        packets[channel.id].append(ReadPacket((at_ns - started_at_ns) / S, media.data, is_key))
    return [
        ReadTrack(
            MediaKind(channel.metadata["kind"]),
            channel.metadata["codec"],
            channel.metadata["name"],
            {name.upper(): value for name, value in channel.metadata.items()},
            tuple(packets[number]),
        )
        for number, channel in channels.items()
    ]


def _is_key(codec: str, data: bytes) -> bool:
    """Whether VP8 or H.264 is a key frame; sound always is."""
    match codec:
        case "vp8":
            return not data[0] & 1
        case "h264":
            return any(unit[0] & 31 == 5 for unit in data.split(b"\0\0\1") if unit)
        case _:
            return True
