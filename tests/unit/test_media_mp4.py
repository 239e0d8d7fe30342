"""MP4 files as boxes: hand-made ones, whole and damaged."""

import struct
from pathlib import Path

import pytest

from openegress.media import mp4
from openegress.media.mp4 import Mp4Error, has_index_in_front, index_to_front, whole_fragments_bytes


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def stco(*offsets: int) -> bytes:
    return box(b"stco", bytes(4), struct.pack(f">{len(offsets) + 1}I", len(offsets), *offsets))


def co64(*offsets: int) -> bytes:
    return box(b"co64", bytes(4), struct.pack(">I", len(offsets)), struct.pack(f">{len(offsets)}Q", *offsets))


def moov(table: bytes) -> bytes:
    inner = box(b"minf", box(b"stbl", box(b"stsd", b"1234"), table))
    return box(b"moov", box(b"mvhd", bytes(20)), box(b"trak", box(b"tkhd"), box(b"mdia", inner)))


FTYP = box(b"ftyp", b"isom")
FREE = box(b"free")
MDAT = box(b"mdat", b"AAAABBBBCCCC")
AT = len(FTYP) + len(FREE) + 8
"""Of the first byte of media."""


def rewritten(tmp_path: Path, data: bytes) -> bytes:
    (tmp_path / "in").write_bytes(data)
    index_to_front(tmp_path / "in", tmp_path / "out")
    return (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("table", [stco, co64])
def test_chunks_are_found_where_they_moved_to(tmp_path: Path, table: object) -> None:
    index = moov(table(AT, AT + 4, AT + 8))  # type: ignore[operator]
    out = rewritten(tmp_path, FTYP + FREE + MDAT + index)
    by = len(index)
    assert out == FTYP + moov(table(AT + by, AT + by + 4, AT + by + 8)) + FREE + MDAT  # type: ignore[operator]
    assert has_index_in_front(tmp_path / "out")
    assert not has_index_in_front(tmp_path / "in")


def test_a_box_with_a_long_size_is_copied_whole(tmp_path: Path) -> None:
    mdat = struct.pack(">I4sQ", 1, b"mdat", 16 + 4) + b"AAAA"
    out = rewritten(tmp_path, FTYP + mdat + moov(stco(len(FTYP) + 16)))
    assert out[out.index(b"stco") + 12 :][:4] == struct.pack(">I", out.index(b"AAAA"))


def test_offsets_that_outgrow_four_bytes_get_eight(tmp_path: Path) -> None:
    near = 2**32 - 40
    path = tmp_path / "in"
    index = moov(stco(near))
    with path.open("wb") as file:
        file.write(FTYP)
        file.write(struct.pack(">I4sQ", 1, b"mdat", near + 100 - len(FTYP)))
        file.seek(near)
        file.write(b"here")
        file.seek(near + 100)
        file.write(index)
    with path.open("rb") as file:
        layout = list(mp4.boxes(file, path.stat().st_size))
    front = [b for b in layout if b.kind == b"ftyp"]
    rest = [b for b in layout if b.kind == b"mdat"]
    moved = mp4._moved(index, front, rest, layout[-1])
    assert moved == moov(co64(near + len(moov(co64(0)))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FTYP + MDAT,
        FTYP + box(b"moov") + box(b"moof") + MDAT,
        FTYP + MDAT + moov(stco(AT))[:-1],
        FTYP + FREE + MDAT[:-2],
        FTYP + FREE + MDAT + moov(stco(9999)),
        FTYP + FREE + MDAT + moov(struct.pack(">I4s", 4, b"stco")),
        b"\0\0\0\3ftypisom",
    ],
)
def test_what_is_no_finished_mp4_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Mp4Error):
        rewritten(tmp_path, data)


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_file_that_was_cut_off_keeps_its_whole_fragments(tmp_path: Path, cut: int) -> None:
    head = FTYP + box(b"moov")
    fragment = box(b"moof", b"12345678") + MDAT
    data = head + fragment * 3
    path = tmp_path / "in"
    path.write_bytes(data[: len(data) - cut])
    whole = (len(data) - cut - len(head)) // len(fragment)
    assert whole_fragments_bytes(path) == len(head) + whole * len(fragment)
