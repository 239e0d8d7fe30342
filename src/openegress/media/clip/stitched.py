"""Reads pieces of files as if they were one file."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from openegress.core.recent import Recent
from openegress.media.clip import Bytes

_BLOCK_BYTES = 256 * 1024
"""Size of a read. Demuxers read a few bytes at a time, and a storage takes as long to answer each."""
_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Piece:
    of: Bytes
    offset: int
    size: int


class Stitched:
    """PyAV's interface of a readable file. Confined to one thread."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = [each for each in pieces if each.size > 0]
        self._starts: list[int] = []
        self._end = 0
        for each in self._pieces:
            self._starts.append(self._end)
            self._end += each.size
        self._at = 0
        self._blocks: Recent[tuple[int, int], bytes] = Recent(_BLOCKS)

    @classmethod
    def whole(cls, file: Bytes) -> "Stitched":
        return cls([Piece(file, 0, file.size())])

    def size(self) -> int:
        return self._end

    def read(self, size: int = -1, /) -> bytes:
        left = self._end - self._at if size < 0 else min(size, self._end - self._at)
        parts: list[bytes] = []
        while left > 0:
            number = bisect_right(self._starts, self._at) - 1
            within = self._at - self._starts[number]
            data = self._of_piece(number, within, left)
            if not data:
                break  # the file became shorter
            parts.append(data)
            self._at += len(data)
            left -= len(data)
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _of_piece(self, number: int, within: int, most: int) -> bytes:
        piece = self._pieces[number]
        block = within // _BLOCK_BYTES
        data = self._blocks.get((number, block))
        if data is None:
            start = block * _BLOCK_BYTES
            data = piece.of.read_at(piece.offset + start, min(_BLOCK_BYTES, piece.size - start))
            self._blocks[number, block] = data
        start = within - block * _BLOCK_BYTES
        return data[start : start + most]


class LocalBytes:
    """A local file, held open: renaming or removing it no longer matters."""

    def __init__(self, fd: int) -> None:
        """The caller keeps ownership of `fd`."""
        self._file = io.FileIO(fd, "r", closefd=False)
        self._fd = fd

    def size(self) -> int:
        return self._file.seek(0, io.SEEK_END)

    def read_at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        parts: list[bytes] = []
        while size > 0 and (data := self._file.read(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)
