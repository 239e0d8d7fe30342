"""What lies over a picture, pixel by pixel, against pictures that somebody has looked at.

Letters are Pillow's own font, which is the same everywhere. `python -m tests.unit.test_media_overlays` draws
the references anew: look at them before they are committed.
"""

from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from openegress.core.looks import Corner, Looks, PictureFiles
from openegress.core.picture_file import MAX_PIXELS, read_picture
from openegress.media import fonts
from openegress.media.canvas import BLACK, Canvas, planes, yuv_of
from openegress.media.geometry import Rect
from openegress.media.images import to_rgb
from openegress.media.overlays import Mark, Overlays, OverlaySink

DATA = Path(__file__).parent / "data" / "looks"
SIZE = (320, 180)
BEGAN_NS = 1_764_450_000_000_000_000
"""2025-11-29 21:00:00 UTC."""
LOGO = str(DATA / "logo.png")
FILES = PictureFiles({"acme": LOGO, "gone": "/nonexistent.png", "broken": __file__})
GROUND = (90, 120, 160)

MARKS = (
    Mark(Rect(10, 10, 140, 80), "Ann", "#00ff00"),
    Mark(Rect(170, 10, 140, 80), "Somebody with a name that is far too long for a tile"),
    Mark(Rect(170, 100, 6, 6), "B", "#ff0000"),
)
CASES: dict[str, tuple[Looks, tuple[Mark, ...]]] = {
    "faint-logo": (Looks(logo="acme", logo_size=0.3, logo_opacity=0.5), ()),
    "text": (Looks(text="Lesson 3: ether & units", text_size=0.1), ()),
    "times": (Looks(clock="Asia/Tokyo", recorded_at="UTC", text_size=0.08, safe_margin=0.0), ()),
    "dot": (Looks(recording_dot=True, text_size=0.12), ()),
    "corner": (
        Looks(
            logo="acme",
            logo_corner=Corner.BOTTOM_LEFT,
            text="below is a logo",
            text_corner=Corner.BOTTOM_LEFT,
            text_size=0.08,
            safe_margin=0.1,
        ),
        (),
    ),
    "marks": (Looks(text_size=0.1), MARKS),
}


@pytest.fixture(autouse=True)
def own_font(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("font_of", "emoji_font_of"):
        monkeypatch.setattr(fonts, name, lambda characters: ("", 0))


def ground(width: int = SIZE[0], height: int = SIZE[1]) -> VideoFrame:
    canvas = Canvas(width, height)
    canvas.fill(canvas.whole, yuv_of(*GROUND))
    return canvas.picture()


def drawn(looks: Looks, marks: tuple[Mark, ...] = (), at_ns: int = 0) -> VideoFrame:
    overlays = Overlays(*SIZE, looks, FILES)
    overlays.zero_ns = BEGAN_NS
    return overlays.over(ground(), at_ns, None, marks)


@pytest.mark.parametrize("name", CASES)
def test_as_it_was_looked_at(name: str) -> None:
    looks, marks = CASES[name]
    found = np.asarray(to_rgb(drawn(looks, marks)), np.int16)
    with Image.open(DATA / f"{name}.png") as opened:
        reference = np.asarray(opened.convert("RGB"), np.int16)
    assert np.abs(found - reference).max() <= 4


def test_nothing_drawn_is_the_picture_itself() -> None:
    picture = ground()
    assert Overlays(*SIZE, Looks(), FILES).over(picture, 0) is picture


def test_what_repeats_is_the_same_object_until_the_clock_moves() -> None:
    overlays, picture = Overlays(*SIZE, Looks(clock="UTC"), FILES), ground()
    overlays.zero_ns = BEGAN_NS
    first = overlays.over(picture, 0)
    assert overlays.over(picture, 999_999_999) is first
    second = overlays.over(picture, 1_000_000_000)
    assert second is not first
    assert planes(picture)[0].max() == planes(picture)[0].min()  # what came is as it was
    differ = np.argwhere(planes(first)[0] != planes(second)[0])
    assert 0 < np.ptp(differ[:, 1]) < 20  # one digit


def test_what_lies_elsewhere_is_untouched() -> None:
    found, before = (
        planes(drawn(Looks(text="x", text_size=0.1, text_corner=Corner.BOTTOM_LEFT)))[0],
        planes(ground())[0],
    )
    assert np.array_equal(found[:140], before[:140]) and np.array_equal(found[:, 60:], before[:, 60:])


@pytest.mark.parametrize(
    "looks",
    [
        Looks(logo="gone"),
        Looks(logo="broken"),
        Looks(logo="unknown"),
    ],
)
def test_what_cannot_be_drawn_ends_nothing(looks: Looks, caplog: pytest.LogCaptureFixture) -> None:
    overlays = Overlays(*SIZE, looks, FILES)
    before = planes(ground())[0]
    for at_ns in range(3):
        assert np.array_equal(planes(overlays.over(ground(), at_ns))[0], before)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (640, 32)])
def test_any_size_takes_everything(size: tuple[int, int]) -> None:
    looks = Looks("acme", text="W" * 200, clock="UTC", recorded_at="UTC", recording_dot=True, logo_size=0.5)
    overlays = Overlays(*size, looks, FILES)
    overlays.over(ground(*size), 0, None, (Mark(Rect(0, 0, *size), "name", "#ffffff"),))


def test_a_name_that_changes_with_each_picture_is_drawn_once_a_second() -> None:
    overlays, rect = Overlays(*SIZE, Looks(text_size=0.1), FILES), Rect(10, 10, 140, 80)
    overlays.zero_ns = BEGAN_NS

    def seen(name: str, at_ns: int, key: str = "one") -> bytes:
        picture = overlays.over(ground(), at_ns, None, (Mark(rect, name, key=key),))
        return planes(picture)[0].tobytes()

    first = seen("A", 0)
    assert seen("B", 900_000_000) == first
    assert seen("B", 1_000_000_000) != first
    assert seen("A", 1_000_000_001, "another") == first  # another's tile has its own name at once
    assert seen("\n".join("A" * 3) + "\u202e" + "x" * 100_000, 3_000_000_000) != first


def test_black_stays_within_limited_range() -> None:
    canvas = Canvas(64, 64)
    canvas.fill(canvas.whole, BLACK)
    found = Overlays(64, 64, Looks(), FILES).over(
        canvas.picture(), 0, None, (Mark(Rect(0, 0, 64, 64), "", "#ffffff"),)
    )
    luma, u, v = planes(found)
    assert (luma.max(), luma.min()) == (235, 16) and {*u.flat, *v.flat} == {128}


class Kept:
    """A FrameSink."""

    def __init__(self) -> None:
        self.pictures: list[tuple[VideoFrame, int]] = []
        self.others: list[tuple[object, ...]] = []

    def video(self, frame: VideoFrame, pts_ns: int) -> None:
        self.pictures.append((frame, pts_ns))

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.others.append((samples, pts_ns, sample_rate))

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self.others.append((pts_ns, paused_ns))


def test_the_clock_goes_on_while_a_recording_is_paused() -> None:
    kept, overlays, picture = Kept(), Overlays(*SIZE, Looks(clock="UTC", text_size=0.1), FILES), ground()
    overlays.zero_ns = BEGAN_NS
    sink = OverlaySink(kept, overlays)
    sink.video(picture, 0)
    sink.resumed(1_000_000_000, 3600_000_000_000)
    sink.audio(b"", 0, 48_000)
    sink.video(picture, 1_000_000_000)
    assert kept.others == [(1_000_000_000, 3600_000_000_000), (b"", 0, 48_000)]
    assert [pts_ns for _, pts_ns in kept.pictures] == [0, 1_000_000_000]
    expected = drawn(Looks(clock="UTC", text_size=0.1), at_ns=3601_000_000_000)
    assert planes(kept.pictures[1][0])[0].tobytes() == planes(expected)[0].tobytes()


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(path)
    with pytest.raises(ValueError, match="million pixels"):
        read_picture(str(path))


if __name__ == "__main__":
    for name in ("font_of", "emoji_font_of"):
        setattr(fonts, name, lambda characters: ("", 0))
    for name, (looks, marks) in CASES.items():
        to_rgb(drawn(looks, marks)).save(DATA / f"{name}.png")
