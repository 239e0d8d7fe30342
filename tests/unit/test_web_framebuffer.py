"""Header of an X window dump."""

import struct

import pytest

from openegress.source.web.display import authority
from openegress.source.web.framebuffer import Layout, parse_header

WORDS = 25
VERSION, WIDTH, HEIGHT, BYTE_ORDER, BITS, STRIDE, COLORS = 1, 4, 5, 7, 11, 12, 19
"""Places in the header (XWDFile.h)."""


def header(changes: dict[int, int] | None = None) -> bytes:
    usual = {0: 160, VERSION: 7, WIDTH: 1366, HEIGHT: 768, BITS: 32, STRIDE: 5464, COLORS: 256}
    values = dict.fromkeys(range(WORDS), 0) | usual | (changes or {})
    return struct.pack(f">{WORDS}I", *values.values())


def test_layout():
    layout = parse_header(header())
    assert layout == Layout(offset=160 + 256 * 12, width=1366, height=768, stride=5464)
    assert layout.size == 3232 + 768 * 5464


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no whole header"),
        (header()[:-1], "no whole header"),
        (header({VERSION: 6}), "version 6"),
        (header({BITS: 16}), "16 bits a pixel"),
        (header({BYTE_ORDER: 1}), "byte order 1"),
        (header({STRIDE: 1000}), "rows of 1000 bytes for 1366 pixels"),
    ],
)
def test_what_is_no_such_dump(data, text):
    with pytest.raises(ValueError, match=text):
        parse_header(data)


def test_authority_file_is_one_wildcard_entry():
    assert authority(b"\x01" * 16) == b"\xff\xff\0\0\0\0\0\x12MIT-MAGIC-COOKIE-1\0\x10" + b"\x01" * 16
