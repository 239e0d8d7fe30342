"""Tiles on a canvas, drawn by FFmpeg and Pillow: what was placed is what is seen."""

import numpy as np
import pytest
from av import VideoFrame

from openegress.core.codecs import MediaKind
from openegress.media.canvas import Canvas, planes, yuv_of
from openegress.media.cover import CoverStyle, draw
from openegress.media.geometry import Fit, Rect, fitting
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.composite.layout_policy import DARK, LIGHT
from openegress.source.room.scene import PLAIN, Look, Tile
from openegress.source.room.tile_view import (
    GONE_HOLD_NS,
    PENDING_NS,
    STALLED_HOLD_NS,
    Picture,
    TileView,
)
from testkit import probe
from testkit.pattern import Rgb

RED, BLUE = (200, 60, 40), (30, 60, 200)
TILE = Rect(8, 8, 312, 344)
PARTICIPANT = Participant("PA", "ann", "Ann", "standard")
SECOND = 1_000_000_000


def solid(width: int, height: int, colour: Rgb) -> VideoFrame:
    canvas = Canvas(width, height)
    canvas.fill(canvas.whole, yuv_of(*colour))
    frame = canvas.picture()
    frame.colorspace = 1
    return frame


def seen(frame: VideoFrame, rect: Rect) -> tuple[float, float, float]:
    return probe.colour_of(frame, probe.Rect(rect.x, rect.y, rect.width, rect.height))


def track(*, muted: bool = False, source: TrackSource = TrackSource.CAMERA, sid: str = "TR") -> Track:
    return Track(sid, "", MediaKind.VIDEO, source, "video/vp8", PARTICIPANT, muted, 640, 360)


class Shown:
    """One tile on a canvas of 640x360."""

    def __init__(self, tile: Tile, look: Look = DARK, at_ns: int = 0) -> None:
        self.canvas = Canvas(640, 360)
        self.view = TileView()
        self.place(tile, look, at_ns)

    def place(self, tile: Tile, look: Look = DARK, at_ns: int = 0) -> None:
        self.canvas.fill(self.canvas.whole, yuv_of(*look.background))
        self.view.place(tile, tile.rect or self.canvas.whole, look, at_ns, cleared=True)

    def at(self, at_ns: int, newest: Picture | None = None) -> VideoFrame:
        self.view.draw(self.canvas, at_ns, newest)
        return self.canvas.picture()


def named(it: Track | None, fit: Fit = Fit.COVER) -> Tile:
    return Tile("ann", it, TILE, fit, "Ann")


MIDDLE = Rect(TILE.x + 100, TILE.y + 100, 100, 100)
EDGE = Rect(TILE.x, TILE.y, TILE.width, 20)
OUTSIDE = Rect(TILE.x + TILE.width + 2, 0, 100, 360)


@pytest.mark.parametrize(
    ("fit", "edge"), [(Fit.COVER, RED), (Fit.CONTAIN, DARK.tile)], ids=["cropped", "whole"]
)
def test_a_picture_lies_in_its_tile_and_nowhere_else(fit: Fit, edge: Rgb) -> None:
    shown = Shown(named(track(), fit))
    frame = shown.at(0, Picture(solid(640, 360, RED), 0))
    assert seen(frame, MIDDLE) == pytest.approx(RED, abs=4)
    assert seen(frame, EDGE) == pytest.approx(edge, abs=4)
    assert seen(frame, OUTSIDE) == pytest.approx(DARK.background, abs=2)


def test_what_was_given_out_does_not_change() -> None:
    shown = Shown(named(track()))
    first = shown.at(0, Picture(solid(640, 360, RED), 0))
    before = [plane.copy() for plane in planes(first)]
    second = shown.at(33, Picture(solid(640, 360, BLUE), 33))
    assert seen(second, MIDDLE) == pytest.approx(BLUE, abs=4)
    assert all(np.array_equal(*pair) for pair in zip(before, planes(first), strict=True))


def test_what_is_drawn_later_lies_above_and_the_rest_stays() -> None:
    canvas, left, inner = Canvas(64, 32), Rect(0, 0, 32, 32), Rect(8, 8, 16, 16)
    canvas.fill(left, yuv_of(*RED))
    first = canvas.picture()
    canvas.fill(Rect(4, 4, 24, 24), yuv_of(*DARK.tile))
    canvas.fill(inner, yuv_of(*BLUE))
    second = canvas.picture()
    assert seen(second, inner) == pytest.approx(BLUE, abs=4)
    assert seen(second, Rect(4, 4, 24, 4)) == pytest.approx(DARK.tile, abs=4)
    assert seen(second, Rect(0, 0, 32, 4)) == pytest.approx(RED, abs=4)
    assert seen(second, Rect(32, 0, 32, 32)) == pytest.approx((0, 0, 0), abs=4)
    assert seen(first, inner) == pytest.approx(RED, abs=4)


def test_nothing_new_is_the_same_picture() -> None:
    shown = Shown(named(track()))
    picture = Picture(solid(640, 360, RED), 0)
    assert shown.at(0, picture) is shown.at(33, picture)


def test_a_picture_as_large_as_the_recording_is_not_copied() -> None:
    shown = Shown(Tile("video", track()), PLAIN)
    picture = solid(640, 360, RED)
    assert shown.at(0, Picture(picture, 0)) is picture


def is_cover(frame: VideoFrame) -> bool:
    """An initial and a name: light letters on the tile's colour."""
    luma = planes(frame)[0][TILE.y : TILE.y + TILE.height, TILE.x : TILE.x + TILE.width]
    return float(luma.std()) > 5 and seen(frame, EDGE) == pytest.approx(DARK.tile, abs=3)


def test_the_name_covers_who_has_no_picture() -> None:
    shown = Shown(named(None))
    assert is_cover(shown.at(0))


def test_a_picture_that_is_coming_needs_no_name_unless_it_takes_long() -> None:
    shown = Shown(named(track()))
    assert not is_cover(shown.at(0))
    assert not is_cover(shown.at(PENDING_NS - 1))
    assert is_cover(shown.at(PENDING_NS))
    assert seen(shown.at(2 * PENDING_NS, Picture(solid(64, 36, RED), 2 * PENDING_NS)), MIDDLE) == (
        pytest.approx(RED, abs=4)
    )


def test_a_muted_camera_is_covered_at_once_and_bare_pictures_stay_a_moment() -> None:
    picture = Picture(solid(640, 360, RED), 0)
    shown = Shown(named(track()))
    shown.at(0, picture)
    shown.place(named(track(muted=True)), at_ns=SECOND)
    assert is_cover(shown.at(SECOND))
    bare = Shown(Tile("video", track(), TILE), PLAIN)
    bare.at(0, picture)
    bare.place(Tile("video", None, TILE), PLAIN)
    assert seen(bare.at(GONE_HOLD_NS), MIDDLE) == pytest.approx(RED, abs=4)
    assert seen(bare.at(GONE_HOLD_NS + 1), MIDDLE) == pytest.approx((0, 0, 0), abs=2)


def test_a_stalled_camera_is_covered_in_the_end_and_a_still_screen_never() -> None:
    picture = Picture(solid(640, 360, RED), 0)
    camera = Shown(named(track()))
    assert not is_cover(camera.at(0, picture))
    assert not is_cover(camera.at(STALLED_HOLD_NS, picture))
    assert is_cover(camera.at(STALLED_HOLD_NS + 1))
    screen = Shown(named(track(source=TrackSource.SCREEN_SHARE)))
    screen.at(0, picture)
    assert not is_cover(screen.at(3600 * SECOND, picture))


def test_a_change_of_looks_draws_anew() -> None:
    shown = Shown(named(None))
    shown.at(0)
    shown.place(named(None), LIGHT)
    frame = shown.at(33)
    assert seen(frame, EDGE) == pytest.approx(LIGHT.tile, abs=3)
    assert seen(frame, OUTSIDE) == pytest.approx(LIGHT.background, abs=2)


NAMES = ("Ann", "", " ", "é", "x" * 300, "محمد", "Ωmega", "日本語", "👩‍🚀", "a\nb\tc", "\x00\x07", "e\u0301")
STYLE = CoverStyle(DARK.tile, DARK.badge, DARK.initial, DARK.name)


@pytest.mark.parametrize("size", [(16, 16), (208, 116), (628, 704), (1920, 1080)])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_fits(name: str, size: tuple[int, int]) -> None:
    frame = draw(name, *size, STYLE)
    assert (frame.width, frame.height, frame.format.name) == (*size, "yuv420p")
    if min(size) > 100:
        margin = planes(frame)[0][:, : size[0] // 50]
        assert int(margin.max()) - int(margin.min()) <= 1, "the name runs out of its tile"


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (641, 359), (2, 2000), (4000, 2)])
def test_fittings_are_even_and_inside(size: tuple[int, int], fit: Fit) -> None:
    fitted = fitting(*size, TILE, fit)
    into, part = fitted.into, fitted.source
    assert all(number % 2 == 0 for number in (into.x, into.y, into.width, into.height, part.x, part.y))
    assert TILE.x <= into.x and into.x + into.width <= TILE.x + TILE.width
    assert TILE.y <= into.y and into.y + into.height <= TILE.y + TILE.height
    assert part.width >= 2 and part.x + part.width <= size[0]
    assert part.height >= 2 and part.y + part.height <= size[1]
    if fit is Fit.COVER:
        assert into == TILE
