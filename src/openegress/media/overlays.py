"""Draws over the pictures of a recording: logo, text, clock, names, borders.

Each item is drawn when it changes, and blended where it lies. If neither the picture nor anything over it
changes, the same object is returned again, so that the encoder recognises the repeat.
"""

import logging
import time
import zoneinfo
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import av
from av.video.frame import VideoFrame

from openegress.core.looks import Corner, Looks, PictureFiles, rgb_of
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.canvas import PIXEL_FORMAT, planes
from openegress.media.geometry import Rect
from openegress.media.text_runs import line_height

if TYPE_CHECKING:  # Pillow loads when something is drawn: most recordings draw nothing
    from PIL import Image

    from openegress.media.layer import Layer

Rgb = tuple[int, int, int]
WHITE = (0xFF, 0xFF, 0xFF)
RED = (0xE0, 0x20, 0x20)
_BOX = (0, 0, 0, 0x90)
"""Colour of the box behind text, which keeps it legible on any picture."""
_PADDING = 0.35
"""Space around text, as a share of its size."""
_NAME_SHARE, _MIN_NAME_PX = 0.08, 10
"""The size of a name as a share of its tile's height, at most that of other lines; and the smallest size."""
_NAME_PAUSE_NS = 1 * S
"""Shortest time between two names on one tile."""
_MAX_NAMES = 200
_BORDER_SHARE = 1 / 180
"""Width of a border, as a share of the picture's shorter side: 4 at 720 lines."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What to draw over one tile."""

    rect: Rect
    name: str = ""
    border: str = ""
    """Colour of the border as #rrggbb."""
    key: str = ""
    """Identifies the tile, wherever it lies."""


class Overlays:
    """The overlays of one recording. Confined to the thread that delivers pictures, except for `zero_ns` and
    `looks`."""

    def __init__(self, width: int, height: int, looks: Looks, pictures: PictureFiles) -> None:
        self._size = (width, height)
        self.looks = looks
        """The current looks. Any thread may replace them as a whole."""
        self._pictures = pictures
        self.zero_ns = 0
        """Unix time of media time zero; 0: unknown, and taken from the first picture."""
        self._drawn: dict[Hashable, Layer | None] = {}
        """Current layers, by what they show."""
        self._named: dict[str, tuple[str, int]] = {}
        """The last name of each tile, and since when."""
        self._before: tuple[VideoFrame, tuple[Hashable, ...], VideoFrame] | None = None
        """The last picture as it came, its overlays, and the result."""
        self._failed: set[Hashable] = set()

    def over(
        self, picture: VideoFrame, at_ns: int, looks: Looks | None = None, marks: tuple[Mark, ...] = ()
    ) -> VideoFrame:
        """Draws all overlays over `picture` at media time `at_ns` (pauses count); does not write to `picture`
        itself. `looks`: the looks of this picture; None: those of all pictures."""
        self.zero_ns = self.zero_ns or time.time_ns() - at_ns
        items = dict(self._items(looks or self.looks, marks, self.zero_ns + at_ns))
        if not items:
            self._drawn.clear()
            self._before = None
            return picture
        keys = tuple(items)
        before = self._before
        if before is not None and before[0] is picture and before[1] == keys:
            return before[2]
        self._drawn = {key: self._drawn_item(key, draw) for key, draw in items.items()}
        painted = _copy(picture)
        views = planes(painted)
        for layer in self._drawn.values():
            if layer is not None:
                layer.blend(views)
        self._before = (picture, keys, painted)
        return painted

    def _drawn_item(self, key: Hashable, draw: "Callable[[], Layer | None]") -> "Layer | None":
        """Draws an item, or returns the drawn one; None if it cannot be drawn, which does not end a
        recording."""
        if key in self._drawn or key in self._failed:
            return self._drawn.get(key)
        try:
            return draw()
        except Exception:
            if len(self._failed) < 100:
                _log.exception("cannot draw over the picture: %s", str(key)[:200])
                self._failed.add(key)
            return None

    def _items(
        self, looks: Looks, marks: tuple[Mark, ...], now_ns: int
    ) -> "Iterator[tuple[Hashable, Callable[[], Layer | None]]]":
        """Returns everything visible: a key that determines how it looks, and a function that draws it."""
        for mark in marks:
            if mark.border:
                for side in self._sides(mark.rect):
                    yield ("border", side, mark.border), _plain(side, mark.border)
            if mark.name:
                steady = self._steady(mark, now_ns) if mark.key else mark
                yield ("name", steady.rect, steady.name), partial(self._name, steady)
        offsets = dict.fromkeys(Corner, 0)
        for kind, corner, what, height, draw in self._corner_items(looks, now_ns):
            offset = offsets[corner]
            offsets[corner] += height + self._gap
            key = (kind, corner, offset, what, looks.safe_margin)
            yield key, partial(self._in_corner, draw, corner, offset, looks.safe_margin)

    def _steady(self, mark: Mark, now_ns: int) -> Mark:
        """Keeps a name that the tile got less than a moment ago, so that a participant who keeps changing
        names does not slow everyone down."""
        before, at_ns = self._named.get(mark.key, ("", 0))
        if before == mark.name:
            return mark
        if before and now_ns - at_ns < _NAME_PAUSE_NS:
            return replace(mark, name=before)
        if len(self._named) >= _MAX_NAMES:
            self._named.clear()
        self._named[mark.key] = (mark.name, now_ns)
        return mark

    def _corner_items(
        self, looks: Looks, now_ns: int
    ) -> "Iterator[tuple[str, Corner, Hashable, int, Callable[[], Image.Image]]]":
        """Returns (kind, corner, what it shows, its height, how to draw it) of each item, from the edge
        inwards."""
        size = self._text_px(looks)
        line = _box_height(size)
        if looks.recording_dot:
            yield "dot", Corner.TOP_LEFT, size, size, lambda: _dot(size)
        if looks.logo:
            height = max(2, round(self._size[1] * looks.logo_size))
            what = (looks.logo, height, looks.logo_opacity)
            yield "logo", looks.logo_corner, what, height, lambda: self._logo(looks, height)
        if looks.text:
            yield "text", looks.text_corner, (looks.text, size), line, lambda: self._line(looks.text, size)
        if looks.clock:
            text = _time_text(now_ns // S, looks.clock, "%Y-%m-%d %H:%M:%S %Z")
            yield "clock", Corner.BOTTOM_RIGHT, (text, size), line, lambda: self._line(text, size)
        if looks.recorded_at:
            began = _time_text(self.zero_ns // S, looks.recorded_at, "Recorded %Y-%m-%d %H:%M %Z")
            yield "began", Corner.BOTTOM_RIGHT, (began, size), line, lambda: self._line(began, size)

    def _text_px(self, looks: Looks) -> int:
        return max(8, round(self._size[1] * looks.text_size))

    @property
    def _gap(self) -> int:
        return max(2, min(self._size) // 120)

    def _in_corner(
        self, draw: "Callable[[], Image.Image]", corner: Corner, offset: int, margin: float
    ) -> "Layer | None":
        from openegress.media.layer import layer_of

        image = draw()
        width, height = self._size
        edge = round(min(width, height) * margin)
        x = edge if corner.is_left else width - edge - image.width
        y = edge + offset if corner.is_top else height - edge - offset - image.height
        return layer_of(image, x, y, width, height)

    def _line(self, text: str, size: int) -> "Image.Image":
        return _boxed(text, size, round(self._size[0] * 0.9))

    def _logo(self, looks: Looks, height: int) -> "Image.Image":
        from openegress.core.picture_file import read_picture
        from openegress.media.picture_fit import scaled_to_height

        image = scaled_to_height(read_picture(self._pictures.logos[looks.logo]), height, self._size[0])
        opacity = looks.logo_opacity
        image.putalpha(image.getchannel("A").point(lambda value: round(value * opacity)))
        return image

    def _name(self, mark: Mark) -> "Layer | None":
        """Draws a name; None if the tile has no room for it."""
        from openegress.media.layer import layer_of

        rect = mark.rect
        size = max(_MIN_NAME_PX, min(round(rect.height * _NAME_SHARE), round(self._size[1] * 0.04)))
        if rect.height < 2 * _box_height(size) or rect.width < 4 * size:
            return None
        image = _boxed(mark.name, size, rect.width - 2 * self._gap)
        bottom = rect.y + rect.height - self._gap - image.height
        return layer_of(image, rect.x + self._gap, bottom, *self._size)

    def _sides(self, rect: Rect) -> Iterator[Rect]:
        thick = max(2, round(min(self._size) * _BORDER_SHARE / 2) * 2)
        if min(rect.width, rect.height) <= 2 * thick:
            return
        yield Rect(rect.x, rect.y, rect.width, thick)
        yield Rect(rect.x, rect.y + rect.height - thick, rect.width, thick)
        inner = rect.height - 2 * thick
        yield Rect(rect.x, rect.y + thick, thick, inner)
        yield Rect(rect.x + rect.width - thick, rect.y + thick, thick, inner)


def _plain(rect: Rect, colour: str) -> "Callable[[], Layer]":
    def draw() -> "Layer":
        from openegress.media.layer import plain_layer

        return plain_layer(rect, rgb_of(colour))

    return draw


def _box_height(size: int) -> int:
    return line_height(size) + 2 * round(_PADDING * size / 2)


def _boxed(text: str, size: int, width: int) -> "Image.Image":
    from PIL import Image

    from openegress.media import text as texts

    padding = round(_PADDING * size)
    line = texts.draw(text, size, WHITE, max(1, width - 2 * padding))
    box = Image.new("RGBA", (line.width + 2 * padding, _box_height(size)), _BOX)
    box.alpha_composite(line, (padding, (box.height - line.height) // 2))
    return box


def _dot(size: int) -> "Image.Image":
    from PIL import Image, ImageDraw

    smooth = 4  # Pillow draws hard edges
    image = Image.new("RGBA", (size * smooth,) * 2, (*RED, 0))
    ImageDraw.Draw(image).ellipse((0, 0, image.width - 1, image.height - 1), fill=(*RED, 255))
    return image.resize((size, size), Image.Resampling.BOX)


class OverlaySink:
    """A FrameSink that draws overlays, and passes pictures on to another sink."""

    def __init__(self, sink: FrameSink, overlays: Overlays) -> None:
        self._sink = sink
        self._overlays = overlays
        self._paused_ns = 0

    def video(self, frame: VideoFrame, pts_ns: int) -> None:
        self._sink.video(self._overlays.over(frame, pts_ns + self._paused_ns), pts_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self._sink.audio(samples, pts_ns, sample_rate)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._paused_ns = paused_ns
        self._sink.resumed(pts_ns, paused_ns)


@lru_cache(maxsize=8)
def _time_text(unix_s: int, zone: str, form: str) -> str:
    try:
        known: tzinfo = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        known = UTC  # the zone was known to the worker that read the request
    return datetime.fromtimestamp(unix_s, known).strftime(form)


def _copy(picture: VideoFrame) -> VideoFrame:
    copy = av.VideoFrame(picture.width, picture.height, PIXEL_FORMAT)
    for plane, source in zip(planes(copy), planes(picture), strict=True):
        plane[:] = source
    copy.colorspace, copy.color_range = picture.colorspace, picture.color_range
    return copy
