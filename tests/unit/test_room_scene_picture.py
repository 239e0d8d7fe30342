"""Scenes as pictures: regions that overlap, backgrounds, and what is written on tiles."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openegress.core.looks import Looks, PictureFiles
from openegress.media.canvas import Canvas, planes, yuv_of
from openegress.media.geometry import Fit, Rect
from openegress.media.overlays import Overlays
from openegress.source.room.scene import Look, Scene, Tile
from openegress.source.room.scene_picture import ScenePicture
from openegress.source.room.tile_view import Picture
from tests.unit.test_composite_layout_policy import ANN, BEN, camera

WIDTH, HEIGHT = 64, 32
GREY, WHITE = Look((80, 80, 80), (0, 0, 0)), (255, 255, 255)
BELOW = Tile("below", camera(ANN), None, Fit.COVER)
ABOVE = Tile("above", camera(BEN), Rect(32, 16, 16, 8), Fit.COVER)


def plain(colour: tuple[int, int, int], at_ns: int = 0) -> Picture:
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.fill(canvas.whole, yuv_of(*colour))
    frame = canvas.picture()
    frame.colorspace = 1
    return Picture(frame, at_ns)


def draw(drawn: ScenePicture, slot: int, pictures: dict[str, Picture]) -> bool:
    return drawn.draw(lambda tile: drawn.view(tile).draw(drawn.canvas, slot, pictures.get(tile.key)))


def luma(drawn: ScenePicture, slot: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return planes(drawn.picture(slot))[0]


def test_what_lies_above_stays_above() -> None:
    drawn = ScenePicture(Canvas(WIDTH, HEIGHT))
    drawn.show(Scene((BELOW, ABOVE), look=GREY), 0)
    top = plain(WHITE)
    for slot, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        assert draw(drawn, slot, {"below": plain(colour, slot), "above": top})
        found = luma(drawn, slot)
        assert {*found[16:24, 32:48].flat} == {yuv_of(*WHITE)[0]}
        assert found[0, 0] == yuv_of(*colour)[0] and found[24, 32] == yuv_of(*colour)[0]


def test_nothing_is_drawn_again_while_nothing_changes() -> None:
    drawn = ScenePicture(Canvas(WIDTH, HEIGHT))
    drawn.show(Scene((BELOW, ABOVE), look=GREY), 0)
    pictures = {"below": plain((255, 0, 0)), "above": plain(WHITE)}
    assert draw(drawn, 0, pictures)
    first = drawn.picture(0)
    assert not draw(drawn, 1, pictures)
    assert drawn.picture(1) is first


@pytest.mark.parametrize("is_there", [True, False])
def test_a_background_picture(is_there: bool, tmp_path: Path) -> None:
    path = tmp_path / "stage.png"
    if is_there:
        Image.new("RGB", (10, 10), WHITE).save(path)
    drawn = ScenePicture(Canvas(WIDTH, HEIGHT))
    for slot in range(2):  # the second time it is not read again
        look = Look((80, 80, 80), (0, 0, slot), background_picture=str(path))
        drawn.show(Scene((ABOVE,), look=look), slot)
        draw(drawn, slot, {"above": plain((0, 0, 0))})
        found = luma(drawn, slot)
        assert found[0, 0] == pytest.approx(yuv_of(*(WHITE if is_there else (80, 80, 80)))[0], abs=1)
        assert found[20, 40] == 16
        path.unlink(missing_ok=True)


def test_a_name_is_on_a_picture_and_not_on_what_stands_for_one() -> None:
    looks = Looks(text_size=0.04)
    tile = Tile("one", camera(ANN), Rect(0, 0, 200, 200), Fit.COVER, "Ann", "Ann")
    for picture, is_there in ((plain(WHITE), True), (None, False)):
        drawn = ScenePicture(Canvas(200, 200), Overlays(200, 200, looks, PictureFiles()))
        drawn.show(Scene((tile,), look=GREY), 0)
        draw(drawn, 0, {"one": picture} if picture else {})
        plainly = planes(drawn.canvas.picture())[0].copy()
        assert np.array_equal(luma(drawn, 0), plainly) is not is_there
