"""MP4 as a file of boxes (ISO/IEC 14496-12): index to the front, H265's name, what a cut-off file holds."""

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
"""The boxes on the way from moov to the chunk offsets and the sample descriptions."""

_COPY_BYTES = 8 * 1024 * 1024
_MAX_MOOV_BYTES = 512 * 1024 * 1024
"""A day of 60 fps and audio has an index of about 200 MB; more than this is a damaged header."""


class Mp4Error(ValueError):
    """The file is not the MP4 it should be."""


@dataclass(frozen=True, slots=True)
class Box:
    kind: bytes
    offset: int
    size: int
    header: int
    """Bytes of the header, 8 or 16."""


def boxes(file: BinaryIO, length: int, start: int = 0) -> Iterator[Box]:
    """The boxes side by side from `start` on. One that claims to reach beyond `length` is the last, and cut
    off."""
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


def index_to_front(source: Path, target: Path) -> None:
    """Copies a finished MP4 whose moov lies behind its media to `target` with the moov in front of it.

    No packet is touched and memory is bounded by the index. Raises Mp4Error when `source` is none, or is
    fragmented; OSError when the disk refuses.
    """
    length = source.stat().st_size
    with source.open("rb") as file, target.open("wb") as out:
        layout = list(boxes(file, length))
        moov = [box for box in layout if box.kind == b"moov"]
        if len(moov) != 1 or any(box.kind == b"moof" for box in layout):
            raise Mp4Error("not a finished MP4: its index is missing, or it is fragmented")
        if moov[0].size > _MAX_MOOV_BYTES:
            raise Mp4Error(f"an index of {moov[0].size} bytes")
        if layout[-1].offset + layout[-1].size != length:
            raise Mp4Error("the file is cut off")
        file.seek(moov[0].offset)
        index = file.read(moov[0].size)
        front = [box for box in layout if box.kind == b"ftyp"]
        rest = [box for box in layout if box.kind not in (b"ftyp", b"moov")]
        for box in front:
            _copy(file, out, box)
        out.write(_moved(index, front, rest, moov[0]))
        for box in rest:
            _copy(file, out, box)
        out.flush()
        os.fsync(out.fileno())


def has_index_in_front(path: Path) -> bool:
    """Whether the moov of a plain MP4 comes before its media."""
    with path.open("rb") as file:
        for box in boxes(file, path.stat().st_size):
            if box.kind in (b"moov", b"mdat"):
                return box.kind == b"moov"
    return False


def name_hvc1(file: BinaryIO, length: int) -> None:
    """Calls H265 hvc1 where FFmpeg called it hev1, which Apple's players refuse. In place.

    Asked for hvc1, FFmpeg takes the parameter sets out of the pictures, and a change of size would be lost
    with them. Players bear them in both places (ISO/IEC 14496-15 8.3.2 would have them in one).
    """
    for offset in list(_sample_descriptions(file, 0, length)):
        file.seek(offset + 4)
        if file.read(4) == b"hev1":
            file.seek(offset + 4)
            file.write(b"hvc1")


def _sample_descriptions(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Where the first one of each track lies."""
    for box in boxes(file, end, start):
        inside = box.offset + box.header
        if box.kind in _CONTAINERS:
            yield from _sample_descriptions(file, inside, box.offset + box.size)
        elif box.kind == b"stsd":
            yield inside + 8


def whole_fragments_bytes(path: Path) -> int:
    """How many bytes of a fragmented MP4 that was cut off hold whole fragments (moof and its mdat)."""
    length = path.stat().st_size
    end = 0
    with path.open("rb") as file:
        for box in boxes(file, length):
            if box.offset + box.size > length:
                break
            if box.kind != b"moof":
                end = box.offset + box.size
    return end


def _moved(index: bytes, front: list[Box], rest: list[Box], moov: Box) -> bytes:
    """The index with its chunk offsets as they are once it stands before `rest`."""
    wide = False
    while True:
        data = bytearray(_widened(index) if wide else index)
        new_start = sum(box.size for box in front) + len(data)
        shifts: list[tuple[int, int, int]] = []
        for box in rest:
            shifts.append((box.offset, box.offset + box.size, new_start - box.offset))
            new_start += box.size
        try:
            _shift(data, 0, len(data), shifts)
        except struct.error:
            # The move takes an offset over 4 GiB: the tables need 8 bytes an entry.
            wide = True
            continue
        return bytes(data)


def _shift(data: bytearray, start: int, end: int, shifts: list[tuple[int, int, int]]) -> None:
    for kind, at, size in _children(data, start, end):
        if kind in _CONTAINERS:
            _shift(data, at + 8, at + size, shifts)
        elif kind in (b"stco", b"co64"):
            count = int.from_bytes(data[at + 12 : at + 16], "big")
            form = f">{count}{'I' if kind == b'stco' else 'Q'}"
            offsets = struct.unpack_from(form, data, at + 16)
            struct.pack_into(form, data, at + 16, *(_shifted(offset, shifts) for offset in offsets))


def _shifted(offset: int, shifts: list[tuple[int, int, int]]) -> int:
    for start, end, by in shifts:
        if start <= offset < end:
            return offset + by
    raise Mp4Error(f"a chunk at {offset} lies in no box of the file")


def _widened(data: bytes) -> bytes:
    """A moov with its stco tables as co64."""
    out = bytearray()
    for kind, at, size in _children(data, 0, len(data)):
        body = data[at + 8 : at + size]
        if kind in _CONTAINERS:
            body = _widened(body)
        elif kind == b"stco":
            count = int.from_bytes(body[4:8], "big")
            kind = b"co64"
            body = body[:8] + struct.pack(f">{count}Q", *struct.unpack_from(f">{count}I", body, 8))
        out += struct.pack(">I4s", len(body) + 8, kind) + body
    return bytes(out)


def _children(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset, size) of the boxes between `start` and `end`."""
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > end:
            raise Mp4Error(f"box {kind!r} inside the index has the impossible size {size}")
        yield kind, at, size
        at += size


def _copy(file: BinaryIO, out: BinaryIO, box: Box) -> None:
    """Copies in the kernel where the file system can, else through a buffer."""
    out.flush()
    done = 0
    while done < box.size:
        step = min(_COPY_BYTES, box.size - done)
        try:
            copied = os.copy_file_range(file.fileno(), out.fileno(), step, offset_src=box.offset + done)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
            file.seek(box.offset + done)
            copied = out.write(file.read(step))
            out.flush()
        if not copied:
            raise Mp4Error("the file became shorter while it was copied")
        done += copied
