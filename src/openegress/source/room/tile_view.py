"""One tile while it is shown: the last picture of its track, or its cover, drawn when either changes.

Confined to the thread that decodes. Times are ns on the recording's timeline.
"""

from dataclasses import dataclass
from enum import Enum, auto

from av.video.frame import VideoFrame

from openegress.media import NS
from openegress.media.canvas import Canvas, Fitter, Fitting, Rect, fitting, yuv_of
from openegress.room import Track, TrackSource
from openegress.source.room.scene import Look, Tile

GONE_HOLD_NS = 1 * NS
"""The last picture of a track that was muted or taken away stays this long where nothing covers the tile:
the next may be on its way."""
STALLED_HOLD_NS = 10 * NS
"""The last picture of a camera that stopped sending without a word."""
NEVER_NS = 1 << 62
"""A shared screen that does not change sends nothing, nor does a canvas, which says nothing of its source:
the last picture is right."""
STILL = frozenset({TrackSource.SCREEN_SHARE, TrackSource.UNKNOWN})
PENDING_NS = 1 * NS
"""A picture that is coming needs no cover, unless it takes long."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The newest of a track."""

    frame: VideoFrame
    at_ns: int
    """Of the slot that it was first seen in."""


class _Content(Enum):
    EMPTY = auto()
    COVER = auto()
    PICTURE = auto()


def hold_ns(tile: Tile) -> int:
    """How long the last picture is shown when no other comes."""
    if tile.track is None or tile.track.muted:
        return 0 if tile.name else GONE_HOLD_NS
    return NEVER_NS if tile.track.source in STILL else STALLED_HOLD_NS


class TileView:
    def __init__(self) -> None:
        self._tile: Tile | None = None
        self._look: Look | None = None
        self._rect = Rect(0, 0, 0, 0)
        self._awaited_from_ns = 0
        self._picture: Picture | None = None
        self._content: _Content | None = None
        """What lies on the canvas; None: whatever was there before."""
        self._drawn: VideoFrame | None = None
        self._fitting: Fitting | None = None
        self._fitter = Fitter()
        self._cover: VideoFrame | None = None

    def place(self, tile: Tile, rect: Rect, look: Look, at_ns: int) -> None:
        """The canvas has been cleared: all is drawn anew."""
        before = self._tile
        if before is None or _is_live(tile.track) != _is_live(before.track):
            self._awaited_from_ns = at_ns
        if before is None or (before.name, self._rect, self._look) != (tile.name, rect, look):
            self._cover = None
        self._tile, self._rect, self._look = tile, rect, look
        self._content, self._drawn = None, None

    def draw(self, canvas: Canvas, slot_ns: int, newest: Picture | None) -> bool:
        """`newest` of the tile's track. True when the tile shows a picture that it did not show before."""
        assert self._tile is not None
        if newest is not None and (self._picture is None or newest.frame is not self._picture.frame):
            self._picture = newest
        if self._picture is not None and slot_ns - self._picture.at_ns > hold_ns(self._tile):
            self._picture = None
        if self._picture is not None:
            return self._draw_picture(canvas, self._picture.frame)
        pending = _is_live(self._tile.track) and slot_ns - self._awaited_from_ns < PENDING_NS
        content = _Content.COVER if self._tile.name and not pending else _Content.EMPTY
        if content is not self._content:
            self._content, self._drawn = content, None
            if content is _Content.COVER:
                canvas.paste(self._covered(), self._rect)
            else:
                self._clear(canvas)
        return False

    def _draw_picture(self, canvas: Canvas, picture: VideoFrame) -> bool:
        if picture is self._drawn:
            return False
        assert self._tile is not None
        fit = fitting(picture.width, picture.height, self._rect, self._tile.fit)
        if fit.into != self._rect and (self._content is not _Content.PICTURE or fit != self._fitting):
            self._clear(canvas)
        canvas.paste(self._fitter.fit(picture, fit), fit.into)
        self._content, self._drawn, self._fitting = _Content.PICTURE, picture, fit
        return True

    def _clear(self, canvas: Canvas) -> None:
        assert self._look is not None
        canvas.fill(self._rect, yuv_of(*self._look.tile))

    def _covered(self) -> VideoFrame:
        if self._cover is None:
            # Imported here: most recordings of single tracks never need it.
            from openegress.media import cover

            assert self._tile is not None and self._look is not None
            look = self._look
            style = cover.CoverStyle(look.tile, look.badge, look.initial, look.name)
            self._cover = cover.draw(self._tile.name, self._rect.width, self._rect.height, style)
        return self._cover


def _is_live(track: Track | None) -> bool:
    return track is not None and not track.muted
