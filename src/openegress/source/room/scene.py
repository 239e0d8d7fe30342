"""What is visible of a room, and where: the tiles of a picture as values. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from openegress.core.looks import Looks
from openegress.media.geometry import Fit, Rect
from openegress.room import Track

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    key: str
    """Stays the same while the tile stands for the same thing, whatever track is in it."""
    track: Track | None
    """None: nothing is published that could be shown."""
    rect: Rect | None = None
    """None: the whole picture."""
    fit: Fit = Fit.CONTAIN
    name: str = ""
    """What covers the tile while there is no picture; "": nothing, and the last picture stays a moment."""
    label: str = ""
    """What is written on the picture."""
    border: str = ""
    """#rrggbb, around the tile; "": none."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours."""

    background: Rgb
    tile: Rgb
    badge: Rgb = (0, 0, 0)
    initial: Rgb = (0, 0, 0)
    name: Rgb = (0, 0, 0)
    background_picture: str = ""
    """Path; in place of the background's colour."""


PLAIN = Look((0, 0, 0), (0, 0, 0))


@dataclass(frozen=True, slots=True)
class Scene:
    tiles: tuple[Tile, ...] = ()
    """From below to above, where they overlap."""
    hidden: tuple[Track, ...] = ()
    """Kept running, so that they are ready when they are shown."""
    look: Look = PLAIN
    looks: Looks | None = None
    """What lies over the picture; None: what the plan says."""

    @property
    def tracks(self) -> Iterator[Track]:
        for tile in self.tiles:
            if tile.track is not None:
                yield tile.track
        yield from self.hidden


NO_PICTURE = Scene()


def whole(track: Track | None) -> Scene:
    """One picture and nothing else, whichever track it comes from."""
    return Scene((Tile("video", track),))
