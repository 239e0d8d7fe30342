"""MP4 files as boxes: hand-made ones, whole and damaged."""

import struct
from pathlib import Path

import pytest

from openegress.media.mp4 import Mp4Error, boxes, whole_fragments_bytes


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


FTYP = box(b"ftyp", b"isom")
MDAT = box(b"mdat", b"AAAABBBBCCCC")


@pytest.mark.parametrize("data", [b"\0\0\0\3ftypisom", b"\0\0\0\1ftyp\0\0\0\0\0\0\0\x0f"])
def test_an_impossible_size_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "in"
    path.write_bytes(data)
    with pytest.raises(Mp4Error, match="impossible size"), path.open("rb") as file:
        list(boxes(file, len(data)))


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_file_that_was_cut_off_keeps_its_whole_fragments(tmp_path: Path, cut: int) -> None:
    head = FTYP + box(b"moov")
    fragment = box(b"moof", b"12345678") + MDAT
    data = head + fragment * 3
    path = tmp_path / "in"
    path.write_bytes(data[: len(data) - cut])
    whole = (len(data) - cut - len(head)) // len(fragment)
    assert whole_fragments_bytes(path) == len(head) + whole * len(fragment)
