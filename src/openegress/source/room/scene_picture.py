"""Draws the picture of a scene: background, tiles, and everything over them.

Only the drawing thread uses it. Times are ns on the recording's timeline.
"""

import logging
from collections.abc import Callable, Iterator

from av.video.frame import VideoFrame

from openegress.core.text import shown
from openegress.media.canvas import Canvas, yuv_of
from openegress.media.geometry import Rect, overlap
from openegress.media.overlays import Mark, Overlays
from openegress.source.room.scene import Look, Scene, Tile
from openegress.source.room.tile_view import TileView

_log = logging.getLogger(__name__)


class ScenePicture:
    def __init__(self, canvas: Canvas, overlays: Overlays | None = None) -> None:
        self.canvas = canvas
        self.overlays = overlays
        self.scene: Scene | None = None
        self._views: dict[str, TileView] = {}
        self._above: dict[str, list[str]] = {}
        """Keys of the tiles that lie over a tile, by its key."""
        self._background: tuple[str, VideoFrame | None] = ("", None)
        """The path and the picture of the last background; None: it cannot be read."""

    @property
    def tiles(self) -> Iterator[Tile]:
        yield from self.scene.tiles if self.scene is not None else ()

    def show(self, scene: Scene, slot_ns: int) -> None:
        """Shows `scene` from now on. If its tiles differ, everything is drawn again."""
        cleared = self.scene is None or _outline(scene) != _outline(self.scene)
        if cleared:
            self._clear(scene.look)
        self._views = {tile.key: self._views.get(tile.key) or TileView() for tile in scene.tiles}
        for tile in scene.tiles:
            rect = tile.rect or self.canvas.whole
            self._views[tile.key].place(tile, rect, scene.look, slot_ns, cleared=cleared)
        self.scene = scene
        self._above = _overlaps(scene, self.canvas.whole)

    def view(self, tile: Tile) -> TileView:
        return self._views[tile.key]

    def forget(self, sid: str) -> None:
        """Does not show the last picture of a track again."""
        for tile in self.tiles:
            if tile.track is not None and tile.track.sid == sid:
                self._views[tile.key].forget()

    def draw(self, draw_tile: Callable[[Tile], bool]) -> bool:
        """Draws all tiles with `draw_tile`, which returns True for a new picture. Returns True if any did."""
        news = False
        for tile in self.tiles:
            news |= draw_tile(tile)
            if self._above and self._views[tile.key].wrote:
                for key in self._above.get(tile.key, ()):
                    self._views[key].spoil()
        return news

    def picture(self, slot_ns: int) -> VideoFrame:
        drawn = self.canvas.picture()
        if self.overlays is None:
            return drawn
        looks = self.scene.looks if self.scene is not None else None
        return self.overlays.over(drawn, slot_ns, looks, tuple(self._marks()))

    def _marks(self) -> Iterator[Mark]:
        for tile in self.tiles:
            label = tile.label if self._views[tile.key].has_picture else ""
            if label or tile.border:
                yield Mark(tile.rect or self.canvas.whole, label, tile.border, tile.key)

    def _clear(self, look: Look) -> None:
        ground = self._picture_of(look.background_picture) if look.background_picture else None
        if ground is not None:
            self.canvas.paste(ground, self.canvas.whole)
        else:
            self.canvas.fill(self.canvas.whole, yuv_of(*look.background))

    def _picture_of(self, path: str) -> VideoFrame | None:
        if self._background[0] != path:
            # Imported here: most recordings never need it.
            from openegress.core.picture_file import read_picture
            from openegress.media.images import to_yuv
            from openegress.media.picture_fit import covering

            whole: Rect = self.canvas.whole
            try:
                self._background = path, to_yuv(covering(read_picture(path), whole.width, whole.height))
            except Exception:  # a background must not end a recording
                _log.exception("the background could not be drawn: %s", shown(path))
                self._background = path, None
        return self._background[1]


def _overlaps(scene: Scene, whole: Rect) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, tile in enumerate(scene.tiles):
        rect = tile.rect or whole
        above = [each.key for each in scene.tiles[number + 1 :] if overlap(rect, each.rect or whole)]
        if above:
            found[tile.key] = above
    return found


def _outline(scene: Scene) -> object:
    return scene.look, [tile.rect for tile in scene.tiles]
