"""Header of an X window dump, and what is read anew of its picture."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from openegress.source.web.display import authority
from openegress.source.web.framebuffer import BAND_ROWS, Framebuffer, PixelLayout, parse_header

WORDS = 25
VERSION, WIDTH, HEIGHT, BYTE_ORDER, BITS, STRIDE, COLORS = 1, 4, 5, 7, 11, 12, 19
"""Places in the header (XWDFile.h)."""


def header(changes: dict[int, int] | None = None) -> bytes:
    usual = {0: 160, VERSION: 7, WIDTH: 1366, HEIGHT: 768, BITS: 32, STRIDE: 5464, COLORS: 256}
    values = dict.fromkeys(range(WORDS), 0) | usual | (changes or {})
    return struct.pack(f">{WORDS}I", *values.values())


def test_layout() -> None:
    layout = parse_header(header())
    assert layout == PixelLayout(offset=160 + 256 * 12, width=1366, height=768, stride=5464)
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
def test_what_is_no_such_dump(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_header(data)


def test_authority_file_is_one_wildcard_entry() -> None:
    assert authority(b"\x01" * 16) == b"\xff\xff\0\0\0\0\0\x12MIT-MAGIC-COOKIE-1\0\x10" + b"\x01" * 16


class Screen:
    """The file that Xvfb would write."""

    def __init__(self, file: Path, width: int, height: int) -> None:
        self._file = file
        self._head = header({WIDTH: width, HEIGHT: height, STRIDE: 4 * width, COLORS: 0}) + bytes(60)
        y, x = np.mgrid[0:height, 0:width]
        self.pixels = np.stack([x % 256, y % 256, (x + y) // 8 % 256, 0 * x], axis=2).astype(np.uint8)
        self.draw()

    def draw(self) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(self._head + self.pixels.tobytes())


def assert_alike(got: av.VideoFrame, expected: av.VideoFrame) -> None:
    """To a step of rounding, which the last row of a band has to itself."""
    assert np.abs(got.to_ndarray().astype(int) - expected.to_ndarray()).max() <= 1


@pytest.mark.parametrize("height", [3 * BAND_ROWS, 3 * BAND_ROWS + 22])
def test_what_changed_is_read_anew_and_earlier_pictures_stay(tmp_path: Path, height: int) -> None:
    file = tmp_path / "screen"
    screen = Screen(file, 160, height)
    framebuffer = Framebuffer(file)
    first = framebuffer.grab()
    before = first.to_ndarray()
    assert framebuffer.grab() is first
    top = BAND_ROWS + 5
    screen.pixels[top : top + 40] = (200, 30, 90, 0)
    screen.draw()
    assert framebuffer.grab() is first
    framebuffer.follow([(top, 10), (top + 10, 30)])
    second = framebuffer.grab()
    assert np.array_equal(first.to_ndarray(), before)
    assert_alike(second, Framebuffer(file).grab())
    screen.pixels[:] = (10, 220, 10, 0)
    screen.draw()
    framebuffer.follow([(-3, height + 6)])
    assert_alike(framebuffer.grab(), Framebuffer(file).grab())
