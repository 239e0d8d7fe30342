"""Reads the picture of a display: maps Xvfb's framebuffer file into memory, and converts what has changed.

The file is an X window dump (XWDFile.h, version 7): a big-endian header, a colour map, rows of BGRX.
"""

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from openegress.media.canvas import PIXEL_FORMAT, Canvas
from openegress.media.geometry import Rect

BAND_ROWS = 64
"""Number of rows that are converted together. On a page with little movement, most need no conversion."""
XWD_VERSION = 7
HEADER_WORDS = 25
COLOR_BYTES = 12


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The position of the pixels in an X window dump."""

    offset: int
    width: int
    height: int
    stride: int
    """Bytes from one row to the next."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + self.height * self.stride


def parse_header(data: bytes) -> PixelLayout:
    """Parses the header. Raises ValueError if this is not a little-endian window dump of 32 bits per
    pixel."""
    if len(data) < HEADER_WORDS * 4:
        raise ValueError(f"window dump of {len(data)} bytes has no whole header")
    words = struct.unpack_from(f">{HEADER_WORDS}I", data)
    header_size, version, width, height = words[0], words[1], words[4], words[5]
    byte_order, bits_per_pixel, stride, colors = words[7], words[11], words[12], words[19]
    if version != XWD_VERSION:
        raise ValueError(f"window dump of version {version}, not {XWD_VERSION}")
    if bits_per_pixel != 32 or byte_order != 0:
        raise ValueError(f"window dump with {bits_per_pixel} bits a pixel, byte order {byte_order}")
    if stride < width * 4:
        raise ValueError(f"window dump with rows of {stride} bytes for {width} pixels")
    return PixelLayout(header_size + colors * COLOR_BYTES, width, height, stride)


class Framebuffer:
    """The mapped picture. Belongs to one thread."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._map = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
        layout = parse_header(self._map[: HEADER_WORDS * 4])
        if len(self._map) < layout.size:
            raise ValueError(f"framebuffer of {len(self._map)} bytes, {layout.size} needed")
        rows = np.frombuffer(self._map, np.uint8, layout.height * layout.stride, layout.offset)
        self._pixels: npt.NDArray[np.uint8] = rows.reshape(layout.height, layout.stride // 4, 4)[
            :, : layout.width
        ]
        self.width, self.height = layout.width, layout.height
        self._canvas = Canvas(self.width, self.height)
        self._bands = [
            Rect(0, top, self.width, min(BAND_ROWS, self.height - top))
            for top in range(0, self.height, BAND_ROWS)
        ]
        self._reformatters = {part.height: VideoReformatter() for part in (self._canvas.whole, *self._bands)}
        """A converter for each size, by its height."""
        self._stale = set(self._bands)

    def follow(self, drawn: Iterable[tuple[int, int]]) -> None:
        """Notes what has changed. `drawn`: (top, number) of the rows that something was drawn on."""
        for top, rows in drawn:
            self._stale.update(
                band for band in self._bands if band.y < top + rows and top < band.y + band.height
            )

    def grab(self) -> av.VideoFrame:
        """The current picture: yuv420p, BT.709, limited range, converted only where it changed since the last
        one. It is not written to again."""
        stale, self._stale = self._stale, set()
        whole = self._canvas.whole
        for part in [whole] if len(stale) == len(self._bands) else stale:
            self._canvas.paste(self._converted(part), part)
        return self._canvas.picture()

    def _converted(self, part: Rect) -> av.VideoFrame:
        """Converts `part`, which is as wide as the picture."""
        rows = self._pixels[part.y : part.y + part.height]
        return self._reformatters[part.height].reformat(
            av.VideoFrame.from_numpy_buffer(rows, format="bgra"),
            format=PIXEL_FORMAT,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_trc=ColorTrc.BT709,
            dst_color_primaries=ColorPrimaries.BT709,
            interpolation=Interpolation.AREA,  # chroma of two rows is made of only these: bands show no seam
            threads=1,  # a second thread costs more in waking than it saves
        )
