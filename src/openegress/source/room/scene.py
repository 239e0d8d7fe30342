"""Describes what is visible of a room, and where: the tiles of a picture as values. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from openegress.core.looks import Looks
from openegress.media.geometry import Fit, Rect
from openegress.room import Track

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    key: str
    """The tile's key. It stays the same while the tile stands for the same thing, whatever its track."""
    track: Track | None
    """The track that the tile shows; None: no suitable track is published."""
    rect: Rect | None = None
    """The tile's rectangle; None: the whole picture."""
    fit: Fit = Fit.CONTAIN
    name: str = ""
    """The name on the cover while there is no picture; "": no cover, and the last picture stays for a
    moment."""
    label: str = ""
    """Text on the picture."""
    border: str = ""
    """#rrggbb, around the tile; "": none."""


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of a scene."""

    background: Rgb
    tile: Rgb
    badge: Rgb = (0, 0, 0)
    initial: Rgb = (0, 0, 0)
    name: Rgb = (0, 0, 0)
    background_picture: str = ""
    """Path of a picture that replaces the colour of the background."""


PLAIN = Look((0, 0, 0), (0, 0, 0))


@dataclass(frozen=True, slots=True)
class Scene:
    tiles: tuple[Tile, ...] = ()
    """The tiles, from bottom to top where they overlap."""
    hidden: tuple[Track, ...] = ()
    """Tracks that keep running, so that they can be shown at once."""
    look: Look = PLAIN
    looks: Looks | None = None
    """The looks of the picture; None: those in the plan."""

    @property
    def tracks(self) -> Iterator[Track]:
        for tile in self.tiles:
            if tile.track is not None:
                yield tile.track
        yield from self.hidden


NO_PICTURE = Scene()


def whole(track: Track | None) -> Scene:
    """A single picture and nothing else, whichever track it comes from."""
    return Scene((Tile("video", track),))
