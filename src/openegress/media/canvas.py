"""The recording's picture: pictures of any size fitted into its parts, drawn anew only where they changed.

Colours: participants send BT.601 unless they say otherwise (VP8 has no other, RFC 6386 section 9.2; the
rest comes from the same cameras and the same conversion of screens, untagged), recordings are BT.709.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
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

Yuv = tuple[int, int, int]
"""A colour: BT.709, limited range."""
BLACK: Yuv = (16, 128, 128)


@dataclass(frozen=True, slots=True)
class Rect:
    x: int
    y: int
    width: int
    height: int


class Fit(StrEnum):
    """How a picture fills a rectangle of another shape."""

    CONTAIN = "contain"
    """Shown whole."""
    COVER = "cover"
    """Cropped."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A picture scaled to (width, height); the part of it at (left, top) comes to lie in `into`."""

    width: int
    height: int
    left: int
    top: int
    into: Rect


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


def cover(width: int, height: int, into_width: int, into_height: int) -> tuple[int, int]:
    """The smallest size of a picture's shape that leaves nothing of another free; even numbers."""
    scale = max(into_width / width, into_height / height)
    return _even_beyond(width * scale, into_width), _even_beyond(height * scale, into_height)


def fitting(width: int, height: int, rect: Rect, fit: Fit) -> Fitting:
    """Where a picture of (width, height) goes. All numbers even (4:2:0 chroma)."""
    if fit is Fit.CONTAIN:
        inner = contain(width, height, rect.width, rect.height)
        into = Rect(rect.x + inner.x, rect.y + inner.y, inner.width, inner.height)
        return Fitting(inner.width, inner.height, 0, 0, into)
    wide, high = cover(width, height, rect.width, rect.height)
    return Fitting(wide, high, (wide - rect.width) // 4 * 2, (high - rect.height) // 4 * 2, rect)


class Canvas:
    """A picture of one size in the recording's format: yuv420p, BT.709 limited range.

    Confined to one thread. A picture given out is never written to again: what is drawn next is drawn on a
    copy, and where nothing is drawn the same picture is given out again.
    """

    def __init__(self, width: int, height: int) -> None:
        self.whole = Rect(0, 0, width, height)
        self._frame = av.VideoFrame(width, height, PIXEL_FORMAT)
        self._given = False
        self.fill(self.whole, BLACK)

    def fill(self, rect: Rect, colour: Yuv) -> None:
        for plane, value in zip(self._writable(rect), colour, strict=True):
            plane[:] = value

    def paste(self, picture: VideoFrame, rect: Rect, left: int = 0, top: int = 0) -> None:
        """The part of `picture` at (left, top) comes to lie in `rect`. `picture` is not written to later."""
        if rect == self.whole == Rect(left, top, picture.width, picture.height):
            self._frame, self._given = picture, True
            return
        part = Rect(left, top, rect.width, rect.height)
        for i, (plane, source) in enumerate(zip(self._writable(rect), planes(picture), strict=True)):
            plane[:] = source[_slices(part, i > 0)]

    def picture(self) -> VideoFrame:
        self._given = True
        return self._frame

    def _writable(self, rect: Rect) -> list[NDArray[np.uint8]]:
        """Views of the part in each plane."""
        if self._given:
            before, self._given = self._frame, False
            self._frame = av.VideoFrame(self.whole.width, self.whole.height, PIXEL_FORMAT)
            if rect != self.whole:
                for plane, old in zip(planes(self._frame), planes(before), strict=True):
                    plane[:] = old
        return [plane[_slices(rect, i > 0)] for i, plane in enumerate(planes(self._frame))]


class Fitter:
    """Scales pictures of one source to what a fitting asks for, and takes their colours to BT.709.

    Confined to one thread; one for each source, since alternating sizes cost its contexts.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._matrix: _ToBt709 | None = None

    def fit(self, picture: VideoFrame, width: int, height: int) -> VideoFrame:
        """May give back `picture` itself, when it is as it should be."""
        matrix = int(picture.colorspace)
        fitted = self._scaled(picture, width, height)
        if matrix == _BT709 or matrix in _BT2020:
            return fitted
        if self._matrix is None or self._matrix.size != (width, height):
            self._matrix = _ToBt709(width, height)
        return self._matrix.convert(fitted)

    def _scaled(self, picture: VideoFrame, width: int, height: int) -> VideoFrame:
        full_range = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
        if (
            not full_range
            and picture.format.name == PIXEL_FORMAT
            and (picture.width, picture.height) == (width, height)
        ):
            return picture
        return self._reformatter.reformat(
            picture,
            width=width,
            height=height,
            format=PIXEL_FORMAT,
            # The same on both sides: libswscale would turn one matrix into another by way of RGB.
            src_colorspace=Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )


def yuv_of(red: int, green: int, blue: int) -> Yuv:
    """BT.709, limited range (ITU-R BT.709-6, item 3)."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    cb, cr = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return round(16 + luma * 219 / 255), round(128 + cb * 224 / 255), round(128 + cr * 224 / 255)


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


def _even_beyond(length: float, limit: int) -> int:
    """Up to the next even number, `limit` (even) where it is as good as that."""
    return limit if length <= limit + 1 else math.ceil(length / 2) * 2


def _slices(rect: Rect, chroma: bool) -> tuple[slice, slice]:
    """(rows, columns) of a part in a plane of 4:2:0."""
    shift = 1 if chroma else 0
    return (
        slice(rect.y >> shift, (rect.y + rect.height) >> shift),
        slice(rect.x >> shift, (rect.x + rect.width) >> shift),
    )
