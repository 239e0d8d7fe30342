"""Shows one tile: the last picture of its track, or its cover, drawn when either changes.

Only the decoding thread uses it. Times are ns on the recording's timeline.
"""

import logging
from dataclasses import dataclass
from enum import Enum, auto

from av.video.frame import VideoFrame

from openegress.core.text import shown
from openegress.core.units import S
from openegress.media.canvas import Canvas, Fitter, alike, yuv_of
from openegress.media.geometry import Fitting, Rect, fitting
from openegress.room import Track, TrackSource
from openegress.source.room.scene import Look, Tile

GONE_HOLD_NS = 1 * S
"""Time for which the last picture of a muted or removed track stays if nothing covers the tile: the next may
be on its way."""
STALLED_HOLD_NS = 10 * S
"""Time for which the last picture of a camera stays that stopped sending without notice."""
NEVER_NS = 1 << 62
"""Stands for no limit. An unchanging shared screen sends nothing, and neither does a canvas, which does not
identify itself: the last picture is still right."""
STILL = frozenset({TrackSource.SCREEN_SHARE, TrackSource.UNKNOWN})
PENDING_NS = 1 * S
"""Wait before a cover is drawn: a picture about to come makes it unnecessary."""
COVER_PAUSE_NS = 1 * S
"""Minimum time between two covers of a tile whose name changes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """The newest picture of a track."""

    frame: VideoFrame
    at_ns: int
    """Time of the slot in which it first appeared."""


class _Content(Enum):
    EMPTY = auto()
    COVER = auto()
    PICTURE = auto()


def hold_ns(tile: Tile) -> int:
    """How long the last picture stays if no other comes."""
    if tile.track is None or tile.track.muted:
        return 0 if tile.name else GONE_HOLD_NS
    return NEVER_NS if tile.track.source in STILL else STALLED_HOLD_NS


class TileView:
    def __init__(self) -> None:
        self.wrote = False
        """Whether the last draw() changed the canvas."""
        self._tile: Tile | None = None
        self._look: Look | None = None
        self._rect = Rect(0, 0, 0, 0)
        self._awaited_from_ns = 0
        self._picture: Picture | None = None
        self._content: _Content | None = None
        """What lies on the canvas; None: unknown, to be drawn again."""
        self._drawn: VideoFrame | None = None
        self._fitting: Fitting | None = None
        self._fitter = Fitter()
        self._cover: VideoFrame | None = None
        self._cover_name = ""
        self._cover_ns = 0
        """Time of the slot that the cover was drawn for."""

    def place(self, tile: Tile, rect: Rect, look: Look, at_ns: int, *, cleared: bool) -> None:
        """Places the tile. `cleared`: the canvas is empty, and everything is drawn again."""
        before = self._tile
        if before is None or _is_live(tile.track) != _is_live(before.track):
            self._awaited_from_ns = at_ns
        if (self._rect, self._look) != (rect, look):
            self._cover = None
        if before is not None and before.fit is not tile.fit:
            self._drawn = None
        self._tile, self._rect, self._look = tile, rect, look
        if cleared:
            self._content, self._drawn = None, None

    def spoil(self) -> None:
        """Call it when something was drawn over the tile, so that it must be drawn again."""
        self._content, self._drawn = None, None

    def draw(self, canvas: Canvas, slot_ns: int, newest: Picture | None) -> bool:
        """Draws the tile. `newest`: the newest picture of its track. Returns True if the tile shows a new
        picture."""
        assert self._tile is not None
        self.wrote = False
        if newest is not None and (self._picture is None or newest.frame is not self._picture.frame):
            self._picture = newest
        if self._picture is not None and slot_ns - self._picture.at_ns > hold_ns(self._tile):
            self._picture = None
        if self._picture is not None:
            return self._draw_picture(canvas, self._picture.frame)
        pending = _is_live(self._tile.track) and slot_ns - self._awaited_from_ns < PENDING_NS
        content = _Content.COVER if self._tile.name and not pending else _Content.EMPTY
        if content is not self._content or (content is _Content.COVER and self._is_stale(slot_ns)):
            self._content, self._drawn = content, None
            cover = self._covered(slot_ns) if content is _Content.COVER else None
            if cover is not None:
                canvas.paste(cover, self._rect)
                self.wrote = True
            else:
                self._clear(canvas)
        return False

    def is_costly(self, canvas: Canvas, newest: Picture) -> bool:
        """Whether drawing takes longer than the recording's own size explains: the picture is far larger, or
        differs in size from the one before, which needs a new setup."""
        frame, drawn, whole = newest.frame, self._drawn, canvas.whole
        if drawn is not None and (drawn.width, drawn.height) != (frame.width, frame.height):
            return True
        return frame.width * frame.height > 2 * whole.width * whole.height

    @property
    def has_picture(self) -> bool:
        """Whether the tile shows a picture, as of the last draw()."""
        return self._content is _Content.PICTURE

    def forget(self) -> None:
        """Does not show the last picture again, and frees everything set up for it."""
        self._picture, self._content, self._drawn = None, None, None
        self._fitter = Fitter()

    def _draw_picture(self, canvas: Canvas, picture: VideoFrame) -> bool:
        if picture is self._drawn:
            return False
        if self._drawn is not None and alike(picture, self._drawn):
            self._drawn = picture
            return False
        assert self._tile is not None
        fit = fitting(picture.width, picture.height, self._rect, self._tile.fit)
        if fit.into != self._rect and (self._content is not _Content.PICTURE or fit != self._fitting):
            self._clear(canvas)
        canvas.paste(self._fitter.fit(picture, fit), fit.into)
        self.wrote = True
        self._content, self._drawn, self._fitting = _Content.PICTURE, picture, fit
        return True

    def _clear(self, canvas: Canvas) -> None:
        assert self._look is not None
        canvas.fill(self._rect, yuv_of(*self._look.tile))
        self.wrote = True

    def _is_stale(self, slot_ns: int) -> bool:
        """Whether the cover's name has changed, and the cover was drawn long enough ago."""
        assert self._tile is not None
        return self._cover_name != self._tile.name and slot_ns - self._cover_ns >= COVER_PAUSE_NS

    def _covered(self, slot_ns: int) -> VideoFrame | None:
        """The cover; None: the name cannot be drawn."""
        if self._cover is None or self._is_stale(slot_ns):
            # Imported here: most recordings of single tracks never need it.
            from openegress.media import cover

            assert self._tile is not None and self._look is not None
            look = self._look
            style = cover.CoverStyle(look.tile, look.badge, look.initial, look.name)
            self._cover, self._cover_name, self._cover_ns = None, self._tile.name, slot_ns
            try:
                self._cover = cover.draw(self._tile.name, self._rect.width, self._rect.height, style)
            except Exception:
                _log.exception("the name on a tile could not be drawn: %s", shown(self._tile.name))
        return self._cover


def _is_live(track: Track | None) -> bool:
    return track is not None and not track.muted
