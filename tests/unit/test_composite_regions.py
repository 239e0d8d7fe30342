"""Who is in which region of a layout of the operator's own, and where regions lie."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.layout_spec import LayoutSpec, Region, RegionFit, Who
from openegress.core.looks import Looks, PictureFiles
from openegress.core.selectors import Selectors
from openegress.media.geometry import Fit, Rect
from openegress.request.layout_file import read_layout
from openegress.request.layouts import Layout
from openegress.room import Track, TrackSource
from openegress.source.room.composite.layout_policy import DARK, LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.composite.regions import rect_of
from openegress.source.room.selection import NOTHING, Selection
from openegress.source.room.track_policy import RoomState
from tests.unit.test_composite_layout_policy import EVA, HD, PEOPLE, camera

SHARE = Track("TR_share", "", camera(EVA).kind, TrackSource.SCREEN_SHARE, "video/vp8", EVA, False, 1920, 1080)
ROOM = RoomState([*(camera(each) for each in PEOPLE), SHARE], PEOPLE, speakers=("ben",))
SLIDES = Region(0, 0, 0.75, 1, selectors=Selectors.parse("source:screen_share").each)
SPEAKER = Region(0.75, 0, 0.25, 0.25, Who.SPEAKER)
REST = Region(0.75, 0.25, 0.25, 0.75, max=4)


def select(*regions: Region, room: RoomState = ROOM, canvas: Size = HD) -> Selection:
    policy = LayoutPolicy(Layout(spec=LayoutSpec("own", regions)), canvas, 30)
    return policy.select(room, NOTHING)


def where(selection: Selection) -> dict[str, Rect | None]:
    return {tile.key: tile.rect for tile in selection.scene.tiles}


def test_regions_take_people_in_their_order() -> None:
    found = where(select(SLIDES, SPEAKER, REST))
    assert found["eva/screen/0"] == Rect(0, 0, 960, 720)
    assert found["ben/camera/0"] == Rect(960, 0, 320, 180)
    assert set(found) == {"eva/screen/0", "ben/camera/0", "ann/camera/0", "eva/camera/0"}
    for key in ("ann/camera/0", "eva/camera/0"):
        rect = found[key]
        assert rect is not None and rect.x >= 960 and rect.y >= 180


def test_who_is_in_no_region_is_not_shown_and_none_is_shown_twice() -> None:
    assert list(where(select(SPEAKER, SPEAKER))) == ["ben/camera/0"]
    assert where(select(Region(0, 0, 1, 1, selectors=Selectors.parse("nobody").each))) == {}
    hidden = select(SPEAKER).scene.hidden
    assert {track.sid for track in hidden} == {"TR_ann", "TR_eva", "TR_share"}


def test_the_nth_is_the_nth_whoever_else_is_shown() -> None:
    second = Region(0, 0, 0.5, 1, nth=2)
    assert list(where(select(second))) == ["ben/camera/0"]
    assert list(where(select(SPEAKER, second))) == ["ben/camera/0"]
    assert where(select(Region(0, 0, 1, 1, nth=9))) == {}


def test_people_keep_their_places_and_the_latest_speakers_are_shown() -> None:
    policy = LayoutPolicy(Layout(spec=LayoutSpec("own", (Region(0, 0, 1, 1, max=2),))), HD, 30)
    room = RoomState([camera(each) for each in PEOPLE], PEOPLE)
    first = policy.select(room, NOTHING)
    assert list(where(first)) == ["ann/camera/0", "ben/camera/0"]
    spoken = policy.select(RoomState(room.tracks, room.participants, ("eva", "ben")), first)
    assert where(spoken)["ben/camera/0"] == where(first)["ben/camera/0"]
    assert where(spoken)["eva/camera/0"] == where(first)["ann/camera/0"]


def test_z_and_fit() -> None:
    whole = Region(0, 0, 1, 1, selectors=Selectors.parse("ann").each, fit=RegionFit.CONTAIN, z=-1)
    inset = Region(0.7, 0.7, 0.25, 0.25, selectors=Selectors.parse("ben").each, z=3)
    scene = select(inset, whole).scene
    assert [tile.key for tile in scene.tiles] == ["ann/camera/0", "ben/camera/0"]
    assert [tile.fit for tile in scene.tiles] == [Fit.CONTAIN, Fit.COVER]


def test_what_is_asked_of_a_track_is_what_its_region_needs() -> None:
    found = select(SPEAKER).qualities["TR_ben"]
    assert (found.width, found.height) == (320, 180)


def test_a_change_while_it_runs() -> None:
    own = LayoutSpec("lesson", (SPEAKER,), "stage")
    policy = LayoutPolicy(
        Layout(), HD, 30, specs=(own,), pictures=PictureFiles(backgrounds={"stage": "/stage.jpg"})
    )
    first = policy.select(ROOM, NOTHING)
    assert first.scene.look is DARK and len(where(first)) == 4

    def told(layout: str) -> Selection:
        metadata = json.dumps({"layout": layout})
        return policy.select(RoomState(ROOM.tracks, PEOPLE, ("ben",), metadata), first)

    changed = told("lesson?text=Part 2&names=yes&speaker_border=red")
    assert list(where(changed)) == ["ben/camera/0"]
    assert changed.scene.look.background_picture == "/stage.jpg"
    assert changed.scene.looks == Looks(text="Part 2", names=True, speaker_border="#ff0000")
    (tile,) = changed.scene.tiles
    assert (tile.label, tile.border) == ("Ben", "#ff0000")
    for wrong in ("lesson?logo=unknown", "lesson?txet=1", "lesson?opt_out=no", "?background=nope"):
        assert told(wrong).scene == changed.scene, wrong
    kept = told("?text=&background=%23ff8800")
    assert list(where(kept)) == ["ben/camera/0"]
    assert kept.scene.looks is not None and kept.scene.looks.text == ""
    assert (kept.scene.look.background, kept.scene.look.background_picture) == ((0xFF, 0x88, 0), "")
    assert len(where(told("grid"))) == 4


SPANS = st.tuples(st.integers(0, 99), st.integers(1, 100)).map(
    lambda each: (each[0], min(each[1], 100 - each[0]))
)


@given(
    across=SPANS,
    down=SPANS,
    canvas=st.tuples(st.integers(8, 4000), st.integers(8, 4000)).map(lambda s: Size(s[0] & ~1, s[1] & ~1)),
    people=st.integers(1, 4),
)
def test_regions_are_even_and_on_the_canvas_at_any_size(
    across: tuple[int, int], down: tuple[int, int], canvas: Size, people: int
) -> None:
    tree = {"x": across[0], "w": across[1], "y": down[0], "h": down[1], "max": people}
    spec = read_layout({"canvas": {"width": 100, "height": 100}, "regions": [tree]}, "x")
    rects = [rect_of(spec.regions[0], canvas)]
    rects += [tile.rect for tile in select(*spec.regions, canvas=canvas).scene.tiles if tile.rect is not None]
    for rect in rects:
        assert rect.width >= 2 and rect.height >= 2
        assert rect.x + rect.width <= canvas.width and rect.y + rect.height <= canvas.height
        assert not (rect.x | rect.y | rect.width | rect.height) & 1 and min(rect.x, rect.y) >= 0


@pytest.mark.parametrize("width", [640, 1280, 854, 1366])
def test_regions_that_touch_leave_no_gap(width: int) -> None:
    left, right = Region(0, 0, 1 / 3, 1), Region(1 / 3, 0, 2 / 3, 1)
    one, other = rect_of(left, Size(width, 360)), rect_of(right, Size(width, 360))
    assert one.x + one.width == other.x and other.x + other.width == width
