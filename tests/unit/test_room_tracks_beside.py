"""Tracks kept beside what is composed: from media time zero on, and without what a pause leaves out."""

from typing import Any, cast

import pytest

from openegress.core.codecs import MediaKind
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import TracksSource
from openegress.source.room.every_track import EveryTrack, WithEveryTrack
from openegress.source.room.selection import NOTHING
from openegress.source.room.track_follower import TrackFollower
from openegress.source.room.track_policy import RoomState
from openegress.source.room.tracks_beside import TracksBeside
from tests.unit.test_room_tracks_source import (
    BEGAN_NS,
    MS,
    FakeFollower,
    Taken,
    camera,
    microphone,
    picture,
    selected,
    sound,
)

ADA, CAM = microphone("ada"), camera("ada")


def beside(follower: FakeFollower) -> TracksBeside:
    return TracksBeside(cast(TrackFollower, follower))


@pytest.mark.asyncio
async def test_what_was_sent_before_media_time_zero_is_not_kept() -> None:
    follower, taken = FakeFollower(selected(ADA, CAM)), Taken()
    tracks = beside(follower)
    tracks.on_selection(follower.selection)
    tracks.on_frame(CAM, picture(CAM, b"key", -40, key=True))
    for at_ms in (-40, -20, 0, 20):
        tracks.on_frame(ADA, sound(ADA, at_ms, b"\x78%d" % (at_ms + 100)))
    tracks.on_frame(CAM, picture(CAM, b"p", 0))
    await tracks.start(BEGAN_NS)
    assert follower.asked == [CAM.sid], "a picture needs the one that was lost"
    tracks.on_frame(ADA, sound(ADA, 40))
    assert not taken.packets, "its output is not open yet"
    tracks.connect([taken])
    tracks.on_frame(CAM, picture(CAM, b"again", 60, key=True))
    await tracks.stop()
    assert [at_ms for _, at_ms in taken.of(1)] == [0, 20, 40]
    assert [(data, at_ms) for data, at_ms in taken.of(2)] == [(b"again", 60)]


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", list(PauseMode))
async def test_a_pause_is_cut_or_a_gap(mode: PauseMode) -> None:
    follower, taken = FakeFollower(selected(ADA)), Taken()
    tracks = beside(follower)
    tracks.on_selection(follower.selection)
    await tracks.start(BEGAN_NS)
    tracks.connect([taken])
    for at_ms in (0, 20):
        tracks.on_frame(ADA, sound(ADA, at_ms))
    tracks.pause(mode, BEGAN_NS + 60 * MS)
    tracks.on_frame(ADA, sound(ADA, 40))
    if mode is PauseMode.CUT:
        tracks.on_frame(ADA, sound(ADA, 60))
        tracks.on_frame(ADA, sound(ADA, 5980))
    for at_ms in (6000, 6020):
        tracks.on_frame(ADA, sound(ADA, at_ms))
    tracks.resume(BEGAN_NS + 6000 * MS)
    tracks.on_frame(ADA, sound(ADA, 6040))
    await tracks.stop()
    after = (60, 80, 100) if mode is PauseMode.CUT else (6000, 6020, 6040)
    assert [at_ms for _, at_ms in taken.of(1)] == [0, 20, 40, *after]


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", list(PauseMode))
async def test_pictures_go_on_with_a_key_frame_each(mode: PauseMode) -> None:
    """That of the first camera lies before the moment at which a cut recording goes on."""
    other = camera("bob")
    follower, taken = FakeFollower(selected(CAM, other)), Taken()
    tracks = beside(follower)
    tracks.on_selection(follower.selection)
    await tracks.start(BEGAN_NS)
    tracks.connect([taken])
    for each in (CAM, other):
        tracks.on_frame(each, picture(each, b"key", 0, key=True))
    tracks.pause(mode, BEGAN_NS + 60 * MS)
    tracks.on_frame(CAM, picture(CAM, b"K2", 5980, key=True))
    tracks.on_frame(CAM, picture(CAM, b"p3", 6010))
    tracks.on_frame(other, picture(other, b"K2", 6020, key=True))
    tracks.resume(BEGAN_NS + 6000 * MS)
    tracks.on_frame(CAM, picture(CAM, b"p4", 6040))
    tracks.on_frame(CAM, picture(CAM, b"K5", 6060, key=True))
    await tracks.stop()
    is_cut = mode is PauseMode.CUT
    assert [data for data, _ in taken.of(1)] == (
        [b"key", b"K5"] if is_cut else [b"key", b"K2", b"p3", b"p4", b"K5"]
    )
    assert [data for data, _ in taken.of(2)] == [b"key", b"K2"]
    assert follower.asked == ([CAM.sid] * 2 if is_cut else [])


def test_all_tracks_are_received_and_those_composed_come_first() -> None:
    bob = camera("bob")
    everybody: Any = EveryTrack(TracksSource("room", "ws://livekit", "token", audio=True, video=False))
    state = RoomState((ADA, CAM, bob), ())
    found = WithEveryTrack(everybody).select(state, NOTHING)
    assert found.tracks == (ADA, CAM, bob)
    assert found.beside == (CAM, bob) and not found.qualities


@pytest.mark.asyncio
async def test_stems_need_no_pictures() -> None:
    follower, taken = FakeFollower(selected(ADA, CAM)), Taken()
    tracks = TracksBeside(cast(TrackFollower, follower), {MediaKind.AUDIO})
    tracks.on_selection(follower.selection)
    await tracks.start(BEGAN_NS)
    tracks.connect([taken, Taken()])
    tracks.on_frame(CAM, picture(CAM, b"p", 0))
    tracks.on_frame(ADA, sound(ADA, 20))
    await tracks.stop()
    assert not follower.asked, "a key frame would cost who is recorded, and those who look on"
    assert [at_ms for _, at_ms in taken.of(1)] == [20]
