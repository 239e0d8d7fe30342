"""Which picture is shown in which slot, when tracks come and go between slots."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind, VideoCodec
from openegress.core.units import MS, S
from openegress.media import cover
from openegress.media.canvas import Canvas, Fitter, planes
from openegress.media.geometry import Fit, Fitting, Rect
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.room.budget import Reason
from openegress.source.memory import Shedding
from openegress.source.room.compositor import Compositor
from openegress.source.room.scene import NO_PICTURE, Scene, Tile, whole
from openegress.source.room.selection import Selection
from testkit.hostile import ODD_NAMES
from testkit.live_encoder import LiveEncoder

FPS = 30
SLOT_NS = S // FPS
SIZE = 64

CAMERA = Track(
    "TR_1",
    "camera",
    MediaKind.VIDEO,
    TrackSource.CAMERA,
    "video/vp8",
    Participant("PA_1", "ann", "Ann", "standard"),
    muted=False,
    width=SIZE,
    height=SIZE,
)


def luma(stage: Compositor, slot: int) -> int:
    return int(planes(stage.picture(slot * SLOT_NS))[0].mean())


@pytest.mark.parametrize("late_ms", [0, 5, 15, 30])
def test_what_was_captured_before_a_track_went_is_shown(late_ms: int) -> None:
    """A picture captured just before, whatever lies between its capture and its slot."""
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(whole(CAMERA)), 0)
    encoder = LiveEncoder("vp8", SIZE, SIZE, FPS, 500)
    levels = [60 + 10 * index for index in range(10)]
    for index, level in enumerate(levels):
        i420 = bytearray(np.full(SIZE * SIZE, level, np.uint8).tobytes() + b"\x80" * (SIZE * SIZE // 2))
        data = encoder.encode(i420, index).data
        at_ns = index * SLOT_NS + late_ms * MS
        frame = EncodedFrame("TR_1", VideoCodec.VP8, data, at_ns, index * 3000, 90_000, index == 0)
        stage.put(CAMERA, at_ns, frame)
    gone_ns = (len(levels) - 1) * SLOT_NS + late_ms * MS + MS
    stage.select(Selection(NO_PICTURE), gone_ns)

    shown = [luma(stage, slot) for slot in range(len(levels) + 2)]
    assert min(abs(each - levels[-1]) for each in shown) <= 4, shown


def camera_of(identity: str, sid: str) -> Track:
    return replace(CAMERA, sid=sid, participant=Participant(sid, identity, identity, "standard"))


ANN, MALLORY = camera_of("ann", "TR_ann"), camera_of("mallory", "TR_mallory")
TILES = Scene(
    (
        Tile("ann", ANN, Rect(0, 0, 32, SIZE), Fit.COVER),
        Tile("mallory", MALLORY, Rect(32, 0, 32, SIZE), Fit.COVER),
    )
)


def shades(count: int, width: int = SIZE, height: int = SIZE) -> list[bytes]:
    """Pictures of one shade each, from 60 on in steps of 4."""
    encoder = LiveEncoder("vp8", width, height, FPS, 500)
    pictures = (
        np.full(width * height, 60 + 4 * index, np.uint8).tobytes() + b"\x80" * (width * height // 2)
        for index in range(count)
    )
    return [encoder.encode(bytearray(each), index).data for index, each in enumerate(pictures)]


def frame_of(track: Track, data: bytes, at_ns: int, is_key: bool, size: tuple[int, int]) -> EncodedFrame:
    return EncodedFrame(track.sid, VideoCodec.VP8, data, at_ns, 0, 90_000, is_key, False, *size)


def beside(stage: Compositor, attack: Callable[[int], None], slots: int = 40) -> None:
    """Ann's picture is new in each slot, whatever `attack` does before it."""
    stage.select(Selection(TILES), 0)
    for slot, data in enumerate(shades(slots)):
        attack(slot)
        at_ns = slot * SLOT_NS
        stage.put(ANN, at_ns, frame_of(ANN, data, at_ns, slot == 0, (SIZE, SIZE)))
        shown = planes(stage.picture(at_ns + SLOT_NS))[0]
        assert abs(int(shown[:, :32].mean()) - 60 - 4 * slot) <= 3, slot


def test_pictures_that_are_too_large_are_their_tracks_trouble() -> None:
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)

    def attack(slot: int) -> None:
        stage.put(MALLORY, 0, frame_of(MALLORY, b"", 0, True, (8192, 8192)))

    beside(stage, attack)
    assert stage.take_troubles() == {"TR_mallory": Reason.PIXELS}
    assert stage.take_troubles() == {}


def test_pictures_that_take_too_long_are_their_tracks_trouble() -> None:
    """Noise, each picture a key frame: a hundred times what there is time for."""
    stage, side = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False), 2048
    noise = np.random.default_rng(1).integers(0, 256, side * side * 3 // 2, np.uint8)
    data = LiveEncoder("vp8", side, side, FPS, 500_000).encode(bytearray(noise.tobytes()), 0).data

    def attack(slot: int) -> None:
        for _ in range(20):
            at_ns = slot * SLOT_NS
            stage.put(MALLORY, at_ns, frame_of(MALLORY, data, at_ns, True, (side, side)))

    began_s = time.thread_time()
    beside(stage, attack, 49)
    assert stage.take_troubles() == {"TR_mallory": Reason.DECODING}
    assert time.thread_time() - began_s < 5


def test_whatever_goes_wrong_with_a_picture_is_its_tracks_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    fit = Fitter.fit

    def fails(self: Fitter, picture: VideoFrame, fitting: Fitting) -> VideoFrame:
        if picture.width == 48:
            raise MemoryError
        return fit(self, picture, fitting)

    monkeypatch.setattr(Fitter, "fit", fails)
    (data,) = shades(1, 48, 48)

    def attack(slot: int) -> None:
        at_ns = slot * SLOT_NS
        stage.put(MALLORY, at_ns, frame_of(MALLORY, data, at_ns, True, (48, 48)))

    beside(stage, attack)
    assert stage.take_troubles() == {"TR_mallory": Reason.TROUBLE}


@given(st.binary(max_size=40), st.booleans())
def test_garbage_in_every_frame(data: bytes, is_key: bool) -> None:
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(TILES), 0)
    for slot in range(4):
        for codec in VideoCodec:
            frame = EncodedFrame("TR_mallory", codec, data, slot * SLOT_NS, 0, 90_000, is_key)
            stage.put(MALLORY, slot * SLOT_NS, frame)
        stage.picture(slot * SLOT_NS)
    assert stage.take_troubles() == {}


def test_where_memory_is_short_the_video_that_holds_most_goes() -> None:
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(TILES), 0)
    (small,), (large,) = shades(1), shades(1, 640, 480)
    stage.put(ANN, 0, frame_of(ANN, small, 0, True, (SIZE, SIZE)))
    stage.put(MALLORY, 0, frame_of(MALLORY, large, 0, True, (640, 480)))
    stage.picture(0)
    stage.put(MALLORY, SLOT_NS, frame_of(MALLORY, large, SLOT_NS, True, (640, 480)))
    stage.shed(Shedding.QUEUES)
    assert stage.take_troubles() == {}
    for sid in ("TR_mallory", "TR_ann"):
        stage.put(ANN, SLOT_NS, frame_of(ANN, small, SLOT_NS, True, (SIZE, SIZE)))
        if sid == "TR_mallory":
            stage.put(MALLORY, SLOT_NS, frame_of(MALLORY, large, SLOT_NS, True, (640, 480)))
        stage.picture(SLOT_NS)
        stage.shed(Shedding.TRACK)
        assert stage.take_troubles() == {sid: Reason.MEMORY}
    stage.shed(Shedding.TRACK)
    assert stage.take_troubles() == {}


def test_a_name_that_changes_with_each_picture_is_drawn_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    draw = cover.draw

    def counted(name: str, *args: Any) -> VideoFrame:
        drawn.append(name)
        return draw(name, *args)

    monkeypatch.setattr(cover, "draw", counted)
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    for slot in range(3 * FPS):
        tile = Tile("ann", replace(ANN, muted=True), name=f"ann {slot}")
        stage.select(Selection(Scene((tile,))), slot * SLOT_NS)
        stage.picture(slot * SLOT_NS)
    assert len(drawn) <= 4
    for slot in range(3 * FPS, 5 * FPS):
        stage.picture(slot * SLOT_NS)
    assert drawn[-1] == f"ann {3 * FPS - 1}"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_drawn(name: str) -> None:
    stage = Compositor(Canvas(320, 180), FPS, with_audio=False)
    stage.select(Selection(Scene((Tile("ann", None, name=name or " "),))), 0)
    stage.picture(0)
