"""Indexes an MCAP file (media.mcap), and adds the summary that readers seek with.

This happens in place: the chunks stay where they are, and the summary follows them.
"""

import os
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from openegress.media.mcap import RECORDING, STARTED_AT
from openegress.media.mcap_records import (
    CHUNK_HEAD_BYTES,
    HEAD_BYTES,
    MAGIC,
    ChunkHead,
    IndexedChunk,
    Opcode,
    chunk_head,
    chunk_index,
    data_end,
    indexed_in,
    message_indexes,
    metadata_index,
    places_in,
    record_head,
    schema_of,
    statistics,
    summary,
    texts_of,
)
from openegress.media.mcap_schemas import VIDEO

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Limit for a record. A chunk holds half a second of media; a larger record is damaged."""
_KEPT = (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA, Opcode.MESSAGE_INDEX)


class McapError(ValueError):
    """The file is not a valid MCAP."""


@dataclass(slots=True)
class _Scanned:
    started_at_ns: int = 0
    metadata: bytes = b""
    """The metadata index."""
    schemas: list[tuple[int, bytes]] = field(default_factory=list)
    """Schemas as (offset, record)."""
    channels: list[tuple[int, bytes]] = field(default_factory=list)
    """Channels as (offset, record)."""
    has_video: bool = False
    chunks: list[IndexedChunk] = field(default_factory=list)
    indexes: list[dict[int, int]] = field(default_factory=list)
    """The message indexes of each chunk: offset by channel."""
    counts: list[dict[int, int]] = field(default_factory=list)
    """Number of messages in each chunk, by channel."""

    def add(self, head: ChunkHead, at: int, length: int) -> None:
        """Adds a chunk whose indexes are still to come."""
        self.indexes.append({})
        self.counts.append({})
        self.chunks.append(IndexedChunk(head, at, length, self.indexes[-1], 0))


@dataclass(frozen=True, slots=True)
class McapSpan:
    """The readable part of a recording."""

    duration_ns: int
    """Time from media time zero to the last message; 0: there is none."""
    has_media: bool
    has_video: bool


def span(path: Path) -> McapSpan:
    """Reads a file, whole or torn; the span is empty if it is not an MCAP. Raises OSError."""
    with path.open("rb") as file:
        try:
            found = _scan(file, path.stat().st_size)
        except McapError:
            return McapSpan(0, False, False)
    end_ns = max((each.head.end_ns for each in found.chunks), default=found.started_at_ns)
    return McapSpan(end_ns - found.started_at_ns, bool(found.chunks), found.has_video)


def add_summary(path: Path) -> bool:
    """Gives `path` its summary, and cuts off a torn end. Returns False if it has one already. Raises
    McapError or OSError; the recording then stays as readable as before."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if _is_whole(file, size):
            return False
        found = _scan(file, size)
        end = _mend(file, found)
        last = data_end()
        try:
            _write(file, end, last + _summary(found, end + len(last)))
        except OSError:
            file.truncate(end)
            raise
        os.fsync(file.fileno())
    return True


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    """Writes without the buffer, which would retry what a full disk has refused."""
    while data:
        written = os.pwrite(file.fileno(), data, at)
        at, data = at + written, data[written:]


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the file ends in a footer."""
    tail = HEAD_BYTES + 20 + len(MAGIC)
    if size < tail:
        return False
    file.seek(size - tail)
    data = file.read(tail)
    return record_head(data) == (Opcode.FOOTER, 20) and data.endswith(MAGIC)


def _scan(file: BinaryIO, size: int) -> _Scanned:
    """Reads all whole records up to the summary."""
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise McapError("it does not begin as an MCAP file does")
    found, at = _Scanned(), len(MAGIC)
    while at + HEAD_BYTES <= size:
        head = file.read(HEAD_BYTES)
        opcode, length = record_head(head)
        end = at + HEAD_BYTES + length
        if length > MAX_RECORD_BYTES or end > size:
            break
        if opcode == Opcode.CHUNK:
            told = chunk_head(file.read(min(length, CHUNK_HEAD_BYTES)))
            if told is None or told.size_bytes != length - CHUNK_HEAD_BYTES:
                break
            found.add(told, at, end - at)
            file.seek(end)
        elif opcode in _KEPT:
            if not _keep(found, opcode, at, head, file.read(length)):
                break
        elif opcode == Opcode.HEADER:
            file.seek(end)
        else:
            break  # the summary, or damage
        at = end
    return found


def _keep(found: _Scanned, opcode: int, at: int, head: bytes, content: bytes) -> bool:
    """Keeps what the summary needs of a record. Returns False if the record is damaged."""
    try:
        match opcode:
            case Opcode.SCHEMA:
                found.schemas.append((at, head + content))
            case Opcode.CHANNEL:
                found.channels.append((at, head + content))
                found.has_video |= schema_of(content) == VIDEO.number
            case Opcode.METADATA:
                name, values = texts_of(content)
                if name == RECORDING:
                    found.started_at_ns = int(values[STARTED_AT])
                    found.metadata = metadata_index(at, len(head) + len(content), name)
            case Opcode.MESSAGE_INDEX if found.chunks:
                number, count = indexed_in(content)
                _index(found, number, count, at, len(head) + len(content))
    except (struct.error, ValueError, KeyError):
        return False
    return True


def _index(found: _Scanned, number: int, count: int, at: int, length: int) -> None:
    last = found.chunks[-1]
    found.indexes[-1][number] = at
    found.chunks[-1] = replace(last, indexes_bytes=last.indexes_bytes + length)
    found.counts[-1][number] = count


def _mend(file: BinaryIO, found: _Scanned) -> int:
    """Cuts the file after its last whole chunk and rewrites the chunk's indexes, which may be torn. Returns
    where the file then ends."""
    while found.chunks:
        last = found.chunks.pop()
        found.indexes.pop()
        found.counts.pop()
        file.seek(last.offset + HEAD_BYTES + CHUNK_HEAD_BYTES)
        messages = file.read(last.head.size_bytes)
        if zlib.crc32(messages) == last.head.crc:
            break
    else:
        raise McapError("it holds no media")
    at = last.offset + last.length
    found.schemas = [each for each in found.schemas if each[0] < at]
    found.channels = [each for each in found.channels if each[0] < at]
    indexes = message_indexes(places_in(messages))
    found.add(last.head, last.offset, last.length)
    place = 0
    while place < len(indexes):
        _, length = record_head(indexes, place)
        number, count = indexed_in(indexes[place + HEAD_BYTES : place + HEAD_BYTES + length])
        _index(found, number, count, at + place, HEAD_BYTES + length)
        place += HEAD_BYTES + length
    _write(file, at, indexes)
    file.truncate(at + len(indexes))
    return at + len(indexes)


def _summary(found: _Scanned, at: int) -> bytes:
    totals: dict[int, int] = {}
    for counts in found.counts:
        for number, count in counts.items():
            totals[number] = totals.get(number, 0) + count
    heads = [each.head for each in found.chunks]
    span_ns = (min(each.start_ns for each in heads), max(each.end_ns for each in heads))
    groups = (
        (Opcode.SCHEMA, b"".join(each for _, each in found.schemas)),
        (Opcode.CHANNEL, b"".join(each for _, each in found.channels)),
        (Opcode.STATISTICS, statistics(span_ns, len(found.schemas), len(found.chunks), totals)),
        (Opcode.METADATA_INDEX, found.metadata),
        (Opcode.CHUNK_INDEX, b"".join(chunk_index(each) for each in found.chunks)),
    )
    return summary(groups, at)
