"""A room in which nothing changes: nothing is drawn, and whoever waits for nothing wakes up seldom."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from av.video.frame import VideoFrame

from openegress.core.codecs import MediaKind, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media.canvas import Canvas, Fitter, alike, planes
from openegress.media.geometry import Rect
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.source.room.clock import slots_at_once
from openegress.source.room.compositor import Compositor
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.scene import Scene, Tile, whole
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower
from testkit.live_encoder import LiveEncoder

FPS, SIZE = 30, 64
SLOT_NS = S // FPS
ANN = Participant("PA_1", "ann", "Ann", "standard")
SCREEN = Track("TR_1", "s", MediaKind.VIDEO, TrackSource.SCREEN_SHARE, "video/vp8", ANN, False, SIZE, SIZE)
MUTED = replace(SCREEN, muted=True)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what drew, copied or converted anything."""
    calls: list[str] = []
    for owner, name in ((Canvas, "fill"), (Canvas, "paste"), (Canvas, "_composed"), (Fitter, "fit")):
        real = getattr(owner, name)

        def counted(*arguments: Any, real: Any = real, name: str = name) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, counted)
    return calls


def shade(level: int) -> bytearray:
    return bytearray(np.full(SIZE * SIZE, level, np.uint8).tobytes() + b"\x80" * (SIZE * SIZE // 2))


def shown(stage: Compositor, slots: Sequence[int]) -> list[VideoFrame]:
    return [stage.picture(slot * SLOT_NS) for slot in slots]


def test_covers_are_drawn_once_and_a_change_in_its_slot(drawn: list[str]) -> None:
    stage = Compositor(Canvas(SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(Scene((Tile("ann", MUTED, Rect(0, 0, 32, SIZE), name="Ann"),))), 0)
    first = stage.picture(0)
    assert drawn
    drawn.clear()
    assert all(picture is first for picture in shown(stage, range(1, 300)))
    assert drawn == []
    stage.select(Selection(Scene((Tile("ann", MUTED, Rect(0, 0, SIZE, SIZE), name="Ann"),))), 300 * SLOT_NS)
    assert stage.picture(300 * SLOT_NS) is first
    assert stage.picture(301 * SLOT_NS) is not first
    assert drawn


def test_a_screen_that_is_sent_again_as_it_was_is_not_drawn_again(drawn: list[str]) -> None:
    stage = Compositor(Canvas(2 * SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(Scene((Tile("ann", SCREEN, Rect(0, 0, SIZE, SIZE)),))), 0)
    encoder = LiveEncoder("vp8", SIZE, SIZE, FPS, 500)
    levels = [60] * 40 + [180] * 5
    sent: list[VideoFrame] = []
    for slot, level in enumerate(levels):
        if slot == 39:
            drawn.clear()
        data, at_ns = encoder.encode(shade(level), slot, force_key=slot in (0, 20)).data, slot * SLOT_NS
        stage.put(
            SCREEN, at_ns, EncodedFrame("TR_1", VideoCodec.VP8, data, at_ns, slot * 3000, 90_000, slot == 0)
        )
        sent.append(stage.picture(at_ns + SLOT_NS))
        if slot == 39:
            assert drawn == [] and sent[-1] is sent[-2]
    lumas = [int(planes(picture)[0][:, :SIZE].mean()) for picture in sent]
    assert abs(lumas[39] - 60) < 4 and abs(lumas[40] - 180) < 8
    assert stage.unique < 30


def test_pictures_are_alike_to_the_last_bit() -> None:
    def grey() -> VideoFrame:
        frame = VideoFrame(SIZE, SIZE, "yuv420p")
        for plane in planes(frame):
            plane[:] = 128
        return frame

    one = grey()
    assert alike(one, grey())
    for plane, row, column in ((0, 1, 63), (0, 0, 0), (1, 31, 31), (2, 5, 0)):
        other = grey()
        planes(other)[plane][row, column] = 129
        assert not alike(one, other)
    assert not alike(one, VideoFrame(SIZE, SIZE * 2, "yuv420p"))
    assert not alike(VideoFrame(SIZE, SIZE, "yuv444p"), VideoFrame(SIZE, SIZE, "yuv444p"))


@dataclass
class Follower:
    """Of a room in which nothing comes."""

    selection: Selection
    batches_reads: bool = False

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def batch_reads(self) -> None:
        self.batches_reads = True

    def drain(self) -> None:
        pass

    async def release(self) -> None:
        pass

    def request_key_frame(self, sid: str) -> None:
        pass


class Slots:
    """A FrameSink."""

    def __init__(self) -> None:
        self.pts_ns: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()

    def video(self, frame: VideoFrame, pts_ns: int) -> None:
        self.pts_ns.append(pts_ns)
        self._loop.call_soon_threadsafe(self._came.set)

    async def given(self, count: int) -> None:
        while len(self.pts_ns) < count:
            self._came.clear()
            await self._came.wait()

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        pass

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        pass


def source_of(follower: Follower, *, watched: bool = False) -> RoomFrameSource:
    encoding = VideoEncoding(SIZE, SIZE, FPS, 500, 4.0)
    source = RoomFrameSource(cast(TrackFollower, follower), encoding, with_audio=False, watched=watched)
    source.on_selection(follower.selection)
    return source


async def ticks_in_a_second(follower: Follower) -> tuple[int, list[int]]:
    """How often the thread woke up, and the PTS that it gave."""
    source, sink, ticks = source_of(follower), Slots(), 0
    take = source._take

    def counted(now_ns: int) -> None:
        nonlocal ticks
        ticks += 1
        take(now_ns)

    source._take = counted  # type: ignore[method-assign]
    source.start_since(sink, 0)
    await asyncio.sleep(1)
    await source.stop()
    return ticks, sink.pts_ns


@pytest.mark.parametrize("track", [MUTED, SCREEN])
async def test_the_thread_wakes_up_seldom_where_nobody_waits(track: Track) -> None:
    follower = Follower(Selection(whole(track)))
    ticks, pts_ns = await ticks_in_a_second(follower)
    assert ticks <= len(pts_ns) / 3 + 6
    assert pts_ns == [number * S // FPS for number in range(len(pts_ns))]
    assert follower.batches_reads


async def test_where_somebody_waits_each_picture_is_given_by_itself() -> None:
    follower = Follower(Selection(whole(MUTED)))
    source, sink = source_of(follower, watched=True), Slots()
    given: list[int] = []
    give = source._give

    def counted(now_ns: int) -> None:
        before = len(sink.pts_ns)
        give(now_ns)
        given.append(len(sink.pts_ns) - before)

    source._give = counted  # type: ignore[method-assign]
    source.start_since(sink, 0)
    async with asyncio.timeout(30):
        await sink.given(FPS)
    await source.stop()
    assert sorted(given)[len(given) // 2] == 1
    assert not follower.batches_reads


def test_a_few_slots_come_at_once_and_for_no_longer_than_a_tenth_of_a_second() -> None:
    assert [slots_at_once(rate) for rate in (1, 10, 30, 240)] == [1, 1, 3, 3]
