"""Writes and reads the records of an MCAP file (https://mcap.dev/spec). Pure.

Each is an opcode, the length of its content, and the content. Times are unix ns.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"\x89MCAP0\r\n"
HEAD_BYTES = 9
"""Size of a record's opcode and length."""
MAX_CHANNEL = 0xFFFF

_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQIIQ")
"""The head of a chunk without a compression name."""


class Opcode(IntEnum):
    HEADER = 0x01
    FOOTER = 0x02
    SCHEMA = 0x03
    CHANNEL = 0x04
    MESSAGE = 0x05
    CHUNK = 0x06
    MESSAGE_INDEX = 0x07
    CHUNK_INDEX = 0x08
    STATISTICS = 0x0B
    METADATA = 0x0C
    METADATA_INDEX = 0x0D
    SUMMARY_OFFSET = 0x0E
    DATA_END = 0x0F


MessagePlace = tuple[int, int, int]
"""Place of a message in its chunk: (channel, ns, offset). A plain tuple, because there is one for every
packet."""


@dataclass(frozen=True, slots=True)
class ChunkHead:
    start_ns: int
    end_ns: int
    size_bytes: int
    """Total size of its records."""
    crc: int


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """A chunk's first and last time, and its place in the file."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    """Length including opcode and length field."""


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk and the message indexes after it, by their offsets in the file."""

    head: ChunkHead
    offset: int
    length: int
    """Length including opcode and length field."""
    indexes: Mapping[int, int]
    """Offset of each message index, by channel."""
    indexes_bytes: int


def record(opcode: Opcode, content: bytes) -> bytes:
    return _HEAD.pack(opcode, len(content)) + content


def record_head(data: bytes, at: int = 0) -> tuple[int, int]:
    """Reads (opcode, length) from HEAD_BYTES."""
    opcode, length = _HEAD.unpack_from(data, at)
    return int(opcode), int(length)


def header() -> bytes:
    return record(Opcode.HEADER, _text("") + _text("openegress"))


def schema(number: int, name: str, encoding: str, data: bytes) -> bytes:
    content = struct.pack("<H", number) + _text(name) + _text(encoding) + struct.pack("<I", len(data)) + data
    return record(Opcode.SCHEMA, content)


def channel(number: int, schema_number: int, topic: str, encoding: str, metadata: Mapping[str, str]) -> bytes:
    ids = struct.pack("<HH", number, schema_number)
    return record(Opcode.CHANNEL, ids + _text(topic) + _text(encoding) + _texts(metadata))


def schema_of(content: bytes) -> int:
    """Reads the schema number in a channel's content."""
    return int(struct.unpack_from("<HH", content)[1])


def message(channel_number: int, sequence: int, at_ns: int, data: bytes) -> bytes:
    """Builds a message record, logged and published at the same time."""
    return record(Opcode.MESSAGE, _MESSAGE.pack(channel_number, sequence, at_ns, at_ns) + data)


def chunk(messages: bytes, places: Sequence[MessagePlace]) -> bytes:
    """Builds a chunk, which is not compressed, because media already is. `messages`: at least one, at
    `places`."""
    times = [at_ns for _, at_ns, _ in places]
    size = len(messages)
    head = _CHUNK.pack(min(times), max(times), size, zlib.crc32(messages), 0, size)
    return record(Opcode.CHUNK, head + messages)


CHUNK_HEAD_BYTES = _CHUNK.size
"""Size of the part of a chunk's content before its messages."""


def chunk_head(content: bytes) -> ChunkHead | None:
    """Parses the first CHUNK_HEAD_BYTES; None if the chunk is not ours."""
    if len(content) < CHUNK_HEAD_BYTES:
        return None
    start_ns, end_ns, plain, crc, name_bytes, size = _CHUNK.unpack_from(content)
    return None if name_bytes or plain != size else ChunkHead(start_ns, end_ns, size, crc)


def message_indexes(places: Iterable[MessagePlace]) -> bytes:
    """Builds the records after a chunk: for each channel, where its messages are in the chunk."""
    found: dict[int, list[tuple[int, int]]] = {}
    for number, at_ns, offset in places:
        found.setdefault(number, []).append((at_ns, offset))
    parts = []
    for number, entries in found.items():
        numbers = [each for entry in sorted(entries) for each in entry]
        packed = struct.pack(f"<HI{len(numbers)}Q", number, 8 * len(numbers), *numbers)
        parts.append(record(Opcode.MESSAGE_INDEX, packed))
    return b"".join(parts)


def places_in(records: bytes) -> Iterator[MessagePlace]:
    """Reads the places of all messages in a chunk."""
    at = 0
    while at < len(records):
        _, length = record_head(records, at)
        number, _, at_ns, _ = _MESSAGE.unpack_from(records, at + HEAD_BYTES)
        yield number, at_ns, at
        at += HEAD_BYTES + length


def message_in(content: bytes) -> tuple[int, int, bytes]:
    """Reads (channel, ns, data) from a message's content."""
    number, _, at_ns, _ = _MESSAGE.unpack_from(content)
    return int(number), int(at_ns), content[_MESSAGE.size :]


def channel_in(content: bytes) -> tuple[int, dict[str, str]]:
    """Reads (number, metadata) from a channel's content. Raises ValueError or struct.error."""
    number = int(struct.unpack_from("<HH", content)[0])
    _, at = _text_at(content, 4)
    _, at = _text_at(content, at)
    return number, _texts_at(content, at)


def indexed_in(index: bytes) -> tuple[int, int]:
    """Reads (channel, number of its messages) from a message index's content."""
    number, size = struct.unpack_from("<HI", index)
    return number, size // 16


def chunk_index(of: IndexedChunk) -> bytes:
    head = of.head
    times = struct.pack("<QQQQ", head.start_ns, head.end_ns, of.offset, of.length)
    sizes = struct.pack("<QIQQ", of.indexes_bytes, 0, head.size_bytes, head.size_bytes)
    return record(Opcode.CHUNK_INDEX, times + _numbers(of.indexes) + sizes)


def chunk_place(content: bytes) -> ChunkPlace:
    """Parses a chunk index's content. Raises struct.error."""
    return ChunkPlace(*struct.unpack_from("<QQQQ", content))


def summary_start(tail: bytes) -> int:
    """Reads where the summary begins, from the last bytes of a file; 0: it has none."""
    at = len(tail) - len(MAGIC) - HEAD_BYTES - 20
    if at < 0 or not tail.endswith(MAGIC) or record_head(tail, at) != (Opcode.FOOTER, 20):
        return 0
    return int(struct.unpack_from("<Q", tail, at + HEAD_BYTES)[0])


def statistics(span_ns: tuple[int, int], schemas: int, chunks: int, messages: Mapping[int, int]) -> bytes:
    """Builds the Statistics record. `messages`: their number, by channel."""
    total = sum(messages.values())
    counts = struct.pack("<QHIIII", total, schemas, len(messages), 0, 1, chunks)
    return record(Opcode.STATISTICS, counts + struct.pack("<QQ", *span_ns) + _numbers(messages))


def metadata(name: str, values: Mapping[str, str]) -> bytes:
    return record(Opcode.METADATA, _text(name) + _texts(values))


def metadata_index(offset: int, length: int, name: str) -> bytes:
    return record(Opcode.METADATA_INDEX, struct.pack("<QQ", offset, length) + _text(name))


def data_end() -> bytes:
    return record(Opcode.DATA_END, bytes(4))  # without a checksum of all media


def summary(groups: Sequence[tuple[Opcode, bytes]], start: int) -> bytes:
    """Builds everything from the end of DataEnd to the end of the file. `start`: its offset in the file."""
    at, offsets = start, []
    for opcode, data in groups:
        if data:
            offsets.append(record(Opcode.SUMMARY_OFFSET, struct.pack("<BQQ", opcode, at, len(data))))
        at += len(data)
    content = b"".join((*(data for _, data in groups), *offsets))
    footer = record(Opcode.FOOTER, struct.pack("<QQI", start, at, 0))[:-4]
    return content + footer + struct.pack("<I", zlib.crc32(footer, zlib.crc32(content))) + MAGIC


def texts_of(content: bytes) -> tuple[str, dict[str, str]]:
    """Reads name and values from a Metadata record's content. Raises ValueError or struct.error if it is not
    one."""
    name, at = _text_at(content, 0)
    return name, _texts_at(content, at)


def _texts_at(content: bytes, at: int) -> dict[str, str]:
    at += 4
    values = {}
    while at < len(content):
        key, at = _text_at(content, at)
        values[key], at = _text_at(content, at)
    return values


def _text_at(content: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", content, at)
    end = at + 4 + size
    return content[at + 4 : end].decode(), end


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def _texts(values: Mapping[str, str]) -> bytes:
    data = b"".join(_text(each) for pair in values.items() for each in pair)
    return struct.pack("<I", len(data)) + data


def _numbers(values: Mapping[int, int]) -> bytes:
    data = b"".join(struct.pack("<HQ", key, value) for key, value in values.items())
    return struct.pack("<I", len(data)) + data
