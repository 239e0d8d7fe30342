"""Fits pictures of any size into the recording's: contained, centred, on black, even rectangles.

Colours: participants send BT.601 unless they say otherwise (VP8 has no other, RFC 6386 section 9.2; the
rest comes from the same cameras and the same conversion of screens, untagged), recordings are BT.709.
"""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

PIXEL_FORMAT = "yuv420p"
_BT709, _BT2020 = 1, (9, 10)
"""H.273 matrix coefficients, as decoders report them."""
_TICK = Fraction(1, 90_000)
"""The filter wants a time base, and does nothing with it."""
_BLACK = (16, 128, 128)


@dataclass(frozen=True, slots=True)
class Rect:
    x: int
    y: int
    width: int
    height: int


def contain(width: int, height: int, into_width: int, into_height: int) -> Rect:
    """The largest rectangle of a picture's shape in another, centred; all numbers even (4:2:0 chroma).

    A difference in shape of less than a chroma sample is given up: no line of black for a rounding.
    """
    if width * into_height >= height * into_width:
        fitted_width, fitted_height = into_width, round(into_width * height / width)
    else:
        fitted_width, fitted_height = round(into_height * width / height), into_height
    fitted_width = _even_within(fitted_width, into_width)
    fitted_height = _even_within(fitted_height, into_height)
    x, y = (into_width - fitted_width) // 4 * 2, (into_height - fitted_height) // 4 * 2
    return Rect(x, y, fitted_width, fitted_height)


class Canvas:
    """Turns decoded pictures into the recording's format: yuv420p, BT.709 limited range, its size.

    Confined to one thread. A picture given out is never written to again, so it may be shown twice.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.background = self._blank()
        self._reformatter = VideoReformatter()
        self._matrix: _ToBt709 | None = None

    def draw(self, picture: VideoFrame) -> VideoFrame:
        """May give back `picture` itself, when it is as it should be."""
        rect = contain(picture.width, picture.height, self.width, self.height)
        fitted = self._fit(picture, rect)
        if (rect.width, rect.height) == (self.width, self.height):
            return fitted
        canvas = self._blank()
        for i, plane in enumerate(planes(canvas)):
            shift = 0 if i == 0 else 1
            rows = slice(rect.y >> shift, (rect.y + rect.height) >> shift)
            columns = slice(rect.x >> shift, (rect.x + rect.width) >> shift)
            plane[rows, columns] = planes(fitted)[i]
        return canvas

    def _fit(self, picture: VideoFrame, rect: Rect) -> VideoFrame:
        matrix = int(picture.colorspace)
        fitted = self._scaled(picture, rect)
        if matrix == _BT709 or matrix in _BT2020:
            return fitted
        if self._matrix is None or self._matrix.size != (rect.width, rect.height):
            self._matrix = _ToBt709(rect.width, rect.height)
        return self._matrix.convert(fitted)

    def _scaled(self, picture: VideoFrame, rect: Rect) -> VideoFrame:
        full_range = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
        if (
            not full_range
            and picture.format.name == PIXEL_FORMAT
            and (picture.width, picture.height) == (rect.width, rect.height)
        ):
            return picture
        return self._reformatter.reformat(
            picture,
            width=rect.width,
            height=rect.height,
            format=PIXEL_FORMAT,
            # The same on both sides: libswscale would turn one matrix into another by way of RGB.
            src_colorspace=Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )

    def _blank(self) -> VideoFrame:
        frame = av.VideoFrame(self.width, self.height, PIXEL_FORMAT)
        for plane, value in zip(planes(frame), _BLACK, strict=True):
            plane[:] = value
        return frame


class _ToBt709:
    """BT.601 to BT.709 within YUV, by FFmpeg's colorspace filter: a fifth of libswscale's time."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=width, height=height, format=VideoFormat(PIXEL_FORMAT), time_base=_TICK
        )
        convert = self._graph.add(
            "colorspace", "iall=bt601-6-625:irange=tv:all=bt709:range=tv:format=yuv420p:fast=1"
        )
        sink = self._graph.add("buffersink")
        source.link_to(convert)
        convert.link_to(sink)
        self._graph.configure()
        self._count = 0

    def convert(self, picture: VideoFrame) -> VideoFrame:
        self._count += 1
        picture.pts, picture.time_base = self._count, _TICK
        self._graph.push(picture)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame)
        return converted


def planes(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """Writable (height, width) views of a planar 8-bit picture."""
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        views.append(rows[:, : plane.width])
    return views


def _even_within(length: int, limit: int) -> int:
    if limit - length < 2:
        return limit
    return max(2, length // 2 * 2)
