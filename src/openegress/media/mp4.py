"""Reads the boxes of an MP4 (ISO/IEC 14496-12), and finds what a truncated file still holds."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

ENTRY_CHANGE = UUID("6f0bb1a7-8f5c-4a8e-9d53-5f2a1f6f5b0e").bytes
"""The type of our own box (ISO/IEC 14496-12 4.2) before a fragment: a track's number in 32 bits, and the
entry of its samples from there on. The header is already written by then; turning the fragments into a plain
file moves the entry into it."""


class Mp4Error(ValueError):
    """The file is not a valid MP4."""


class ReadableFile(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Box:
    kind: bytes
    offset: int
    size: int
    header: int
    """Size of the header, 8 or 16."""


def boxes(file: ReadableFile, length: int, start: int = 0) -> Iterator[Box]:
    """Reads sibling boxes from `start` on. A box that claims to reach beyond `length` is the last, and
    truncated."""
    offset = start
    while offset + 8 <= length:
        file.seek(offset)
        head = file.read(16)
        size, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = length - offset
        if size < header:
            raise Mp4Error(f"box {kind!r} at {offset} has the impossible size {size}")
        yield Box(kind, offset, size, header)
        offset += size


def whole_fragments_bytes(path: Path) -> int:
    """Counts the bytes of a truncated fragmented MP4 that hold whole fragments (a moof and its mdat)."""
    length = path.stat().st_size
    end = 0
    with path.open("rb") as file:
        for box in boxes(file, length):
            if box.offset + box.size > length:
                break
            if box.kind != b"moof":
                end = box.offset + box.size
    return end


def children(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Reads (kind, offset, size) of the boxes in memory between `start` and `end`."""
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > end:
            raise Mp4Error(f"box {kind!r} inside another has the impossible size {size}")
        yield kind, at, size
        at += size
