"""Draws the recording's picture: fits pictures of any size into regions, and redraws only what has changed.

Colours: participants send BT.601 unless they say otherwise. VP8 knows nothing else (RFC 6386 section 9.2),
and untagged streams come from the same cameras and screen converters. Recordings are BT.709.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from openegress.media.geometry import Fitting, Rect, outside

PIXEL_FORMAT = "yuv420p"
_BT709, _BT2020 = 1, (9, 10)
"""H.273 matrix coefficients, as decoders report them."""
_TICK = Fraction(1, 90_000)
"""The filter requires a time base but does not use it."""

_GLANCE_ROWS = 24
"""Number of rows that are compared first."""

Yuv = tuple[int, int, int]
"""A colour in BT.709, limited range."""
BLACK: Yuv = (16, 128, 128)


class Canvas:
    """A picture of one size in the recording's format: yuv420p, BT.709 limited range.

    Confined to one thread. Drawing happens when the picture is requested. A picture that was returned is
    never written to again: the next one reuses every part that was not drawn over, and is the same picture if
    nothing was drawn.
    """

    def __init__(self, width: int, height: int) -> None:
        self.whole = Rect(0, 0, width, height)
        self._frame: VideoFrame | None = None
        """The last picture."""
        self._drawn: list[tuple[Rect, VideoFrame | Yuv]] = [(self.whole, BLACK)]
        """What was drawn since the last picture."""

    def fill(self, rect: Rect, colour: Yuv) -> None:
        self._draw(rect, colour)

    def paste(self, picture: VideoFrame, rect: Rect) -> None:
        """Puts `picture`, which has the size of `rect`, at `rect`. Nobody may write to it later."""
        self._draw(rect, picture)

    def picture(self) -> VideoFrame:
        if self._drawn or self._frame is None:
            self._frame = self._composed(self._frame)
            self._drawn = []
        return self._frame

    def _draw(self, rect: Rect, content: VideoFrame | Yuv) -> None:
        if rect == self.whole:
            self._drawn = []
        self._drawn.append((rect, content))

    def _composed(self, before: VideoFrame | None) -> VideoFrame:
        if len(self._drawn) == 1 and self._drawn[0][0] == self.whole:
            only = self._drawn[0][1]
            if isinstance(only, VideoFrame):
                return only
        frame = av.VideoFrame(self.whole.width, self.whole.height, PIXEL_FORMAT)
        into = planes(frame)
        if before is not None:
            kept = planes(before)
            for rect in _outside(self.whole, tuple(rect for rect, _ in self._drawn)):
                for index, (plane, old) in enumerate(zip(into, kept, strict=True)):
                    at = _slices(rect, index > 0)
                    plane[at] = old[at]
        for rect, content in self._drawn:
            parts = [plane[_slices(rect, index > 0)] for index, plane in enumerate(into)]
            if isinstance(content, VideoFrame):
                for part, source in zip(parts, planes(content), strict=True):
                    part[:] = source
            else:
                for part, value in zip(parts, content, strict=True):
                    part[:] = value
        return frame


@lru_cache(maxsize=64)
def _outside(whole: Rect, rects: tuple[Rect, ...]) -> list[Rect]:
    """The parts of `whole` outside `rects`. Cached, because the same tiles change again and again."""
    return list(outside(whole, rects))


class Fitter:
    """Crops and scales the pictures of one source to a fitting, and converts their colours to BT.709.

    Confined to one thread. Each source needs its own, since the filters are set up for one size.
    """

    def __init__(self) -> None:
        self._set_up: _Task | None = None
        self._graph: Graph | None = None
        self._count = 0

    def fit(self, picture: VideoFrame, fitting: Fitting) -> VideoFrame:
        """Returns a picture of the size of `fitting.into`; `picture` itself if it fits already."""
        task = _Task.of(picture, fitting)
        if task.is_nothing:
            return picture
        if self._graph is None or task != self._set_up:
            self._graph, self._set_up = task.graph(), task
        self._count += 1
        picture.pts, picture.time_base = self._count, _TICK
        self._graph.push(picture)
        fitted = self._graph.pull()
        assert isinstance(fitted, VideoFrame)
        return fitted


@dataclass(frozen=True, slots=True)
class _Task:
    """What FFmpeg's filters must do to a picture. crop only moves pointers. colorspace takes a fifth of the
    time of libswscale, which would convert the matrix by way of RGB."""

    width: int
    height: int
    pixels: str
    full_range: bool
    is_bt709: bool
    source: Rect
    size: tuple[int, int]

    @classmethod
    def of(cls, picture: VideoFrame, fitting: Fitting) -> "_Task":
        name, matrix = picture.format.name, int(picture.colorspace)
        return cls(
            picture.width,
            picture.height,
            name,
            picture.color_range == ColorRange.JPEG or name.startswith("yuvj"),
            matrix == _BT709 or matrix in _BT2020,
            fitting.source,
            (fitting.into.width, fitting.into.height),
        )

    @property
    def is_nothing(self) -> bool:
        return not self._crops and not self._scales and self.is_bt709

    @property
    def _crops(self) -> bool:
        return self.source != Rect(0, 0, self.width, self.height)

    @property
    def _scales(self) -> bool:
        size = (self.source.width, self.source.height)
        return size != self.size or self.full_range or self.pixels != PIXEL_FORMAT

    def graph(self) -> Graph:
        graph = Graph()
        graph.threads = 1  # more threads cost half as much again, because they wake each other
        node = graph.add_buffer(
            width=self.width, height=self.height, format=VideoFormat(self.pixels), time_base=_TICK
        )
        for name, arguments in self._filters():
            following = graph.add(name, arguments)
            node.link_to(following)
            node = following
        node.link_to(graph.add("buffersink"))
        graph.configure()
        return graph

    def _filters(self) -> Iterator[tuple[str, str]]:
        if self._crops:
            part = self.source
            yield "crop", f"{part.width}:{part.height}:{part.x}:{part.y}"
        if self._scales:
            before = "pc" if self.full_range else "tv"
            # The matrix is the same on both sides, because colorspace converts it better.
            yield (
                "scale",
                f"{self.size[0]}:{self.size[1]}:flags=bilinear:in_range={before}:out_range=tv"
                ":in_color_matrix=bt601:out_color_matrix=bt601",
            )
            yield "format", PIXEL_FORMAT
        if not self.is_bt709:
            yield "colorspace", "iall=bt601-6-625:irange=tv:all=bt709:range=tv:format=yuv420p:fast=1"


def alike(one: VideoFrame, other: VideoFrame) -> bool:
    """Whether two pictures in the recording's format are identical; False for pictures in other formats. A
    few rows distinguish most moving pictures."""
    if _kind(one) != _kind(other) or one.format.name != PIXEL_FORMAT or not _glance(one, other):
        return False
    return all(np.array_equal(_view(a), _view(b)) for a, b in zip(one.planes, other.planes, strict=True))


def _glance(one: VideoFrame, other: VideoFrame) -> bool:
    """Whether a few rows of luma are the same. Uses no arrays, because most moving pictures stop here."""
    mine, others = one.planes[0], other.planes[0]
    rows, before, width = memoryview(mine), memoryview(others), mine.width
    for row in range(0, mine.height, -(-mine.height // _GLANCE_ROWS)):
        at, was = row * mine.line_size, row * others.line_size
        if bytes(rows[at : at + width]) != bytes(before[was : was + width]):
            return False
    return True


def _kind(picture: VideoFrame) -> object:
    return (
        picture.width,
        picture.height,
        picture.format.name,
        int(picture.colorspace),
        int(picture.color_range),
    )


def yuv_of(red: int, green: int, blue: int) -> Yuv:
    """Converts RGB to BT.709, limited range (ITU-R BT.709-6, item 3)."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    cb, cr = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return round(16 + luma * 219 / 255), round(128 + cb * 224 / 255), round(128 + cr * 224 / 255)


def planes(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """Returns writable (height, width) views of a planar 8-bit picture."""
    return [_view(plane) for plane in frame.planes]


def _view(plane: VideoPlane) -> NDArray[np.uint8]:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _slices(rect: Rect, chroma: bool) -> tuple[slice, slice]:
    """Returns (rows, columns) of a part in a plane of 4:2:0."""
    shift = 1 if chroma else 0
    return (
        slice(rect.y >> shift, (rect.y + rect.height) >> shift),
        slice(rect.x >> shift, (rect.x + rect.width) >> shift),
    )
