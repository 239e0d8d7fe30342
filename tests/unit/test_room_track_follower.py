"""Somebody who publishes and unpublishes without end: nothing of it is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from openegress.core.codecs import MediaKind, VideoCodec
from openegress.core.events import Rejoined
from openegress.core.left_out import TrackLosses
from openegress.core.plan import AudioRoute, Recorded
from openegress.request.layouts import Layout
from openegress.room import Lock, OnFrame, Participant, Track, TrackSource, VideoQuality
from openegress.room.budget import Reason
from openegress.room.events import (
    ConnectionLost,
    KeyFrameArrived,
    MediaArrived,
    Reconnected,
    RoomEvent,
    TrackPublished,
    TrackUnpublished,
)
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.recorded_people import RecordedPeople
from openegress.source.room.track_follower import TrackFollower

MALLORY = Participant("PA_1", "mallory", "Mallory", "standard")
TIMES = 200


class ScriptedRoom:
    """Implements room.Room: says what it is told to."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[RoomEvent | None] = asyncio.Queue()
        self._tracks: dict[str, Track] = {}
        self.held: set[str] = set()
        """SIDs that are subscribed to."""
        self.last = asyncio.Event()
        """The last track is subscribed to."""

    def say(self, *events: RoomEvent) -> None:
        for event in events:
            match event:
                case TrackPublished(track):
                    self._tracks[track.sid] = track
                case TrackUnpublished(track):
                    del self._tracks[track.sid]
            self._events.put_nowait(event)

    async def heard(self) -> None:
        """All that was said was taken, and what changed was looked at."""
        await self._events.join()

    async def join(self) -> None:
        pass

    async def connected(self) -> None:
        """At once."""

    async def events(self) -> AsyncIterator[RoomEvent]:
        while (event := await self._events.get()) is not None:
            yield event
            self._events.task_done()

    def tracks(self) -> list[Track]:
        return list(self._tracks.values())

    def participants(self) -> list[Participant]:
        return [MALLORY]

    def lock(self, track: Track) -> Lock | None:
        return None

    def now_ns(self) -> int:
        return 0

    def take_over(self, sid: str, track: Track) -> None:
        """It is back under a new SID, as room.subscriptions has it."""
        self.held = {track.sid if each == sid else each for each in self.held}
        self.say(TrackUnpublished(self._tracks[sid]), TrackPublished(track))

    def subscribed(self) -> frozenset[str]:
        return frozenset(self.held)

    async def subscribe(self, sids: Iterable[str], on_frame: OnFrame) -> None:
        self.held |= set(sids)
        if camera(TIMES).sid in sids:
            self.last.set()

    async def unsubscribe(self, sids: Iterable[str]) -> None:
        self.held -= set(sids)

    async def set_quality(self, sid: str, quality: VideoQuality) -> None:
        """Nothing comes anyhow."""

    def batch_reads(self) -> None:
        """Nothing comes anyhow."""

    def drain(self) -> None:
        """Nothing comes anyhow."""

    def request_key_frame(self, sid: str) -> None:
        """Nothing comes anyhow."""

    def leave_out(self, sid: str, reason: Reason) -> None:
        """Nothing comes anyhow."""

    def left_out(self) -> frozenset[str]:
        return frozenset()

    def losses(self) -> list[TrackLosses]:
        return []

    async def close(self) -> None:
        self._events.put_nowait(None)


class Deaf:
    """Implements track_follower.Listener."""

    def on_frame(self, *_: object) -> None:
        """Nothing comes."""

    def on_selection(self, *_: object) -> None:
        """Nobody looks."""

    def shed(self, *_: object) -> None:
        """There is memory."""


def camera(number: int) -> Track:
    return Track(f"TR_{number}", "", MediaKind.VIDEO, TrackSource.CAMERA, "video/vp8", MALLORY, False)


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "after the end"])
async def test_tracks_without_end(is_late: bool) -> None:
    room = ScriptedRoom()
    follower = TrackFollower(room, "room", LayoutPolicy(Layout(), Size(640, 360), 30, (AudioRoute("all"),)))
    await follower.join()
    await follower.subscribe(Deaf())
    for number in range(TIMES):
        track = camera(number)
        news = (MediaArrived(track, 1), KeyFrameArrived(track, VideoCodec.VP8, bytes(10_000), 640, 360))
        ends = TrackUnpublished(track)
        room.say(TrackPublished(track), *((ends, *news) if is_late else (*news, ends)))
        await room.heard()
    room.say(TrackPublished(camera(TIMES)))
    async with asyncio.timeout(10):
        await room.last.wait()
    assert follower.arrived == {} and follower.key_frames == {}
    await follower.close()


async def test_who_opts_out_while_the_connection_is_lost_is_not_subscribed_to_under_a_new_sid() -> None:
    """The room goes on with a track that is back, and asks nobody."""
    room = ScriptedRoom()
    layout = LayoutPolicy(Layout(), Size(640, 360), 30, (AudioRoute("all"),))
    follower = TrackFollower(room, "room", RecordedPeople(layout, Recorded()))
    await follower.join()
    await follower.subscribe(Deaf())
    room.say(TrackPublished(camera(1)))
    await room.heard()
    assert room.held == {"TR_1"}
    gone = replace(camera(2), participant=replace(MALLORY, opts_out=True))
    room.take_over("TR_1", gone)
    await room.heard()
    assert room.held == set()
    room.take_over("TR_2", camera(3))
    await room.heard()
    assert room.held == {"TR_3"}
    await follower.release()
    assert room.held == set()
    await follower.close()


async def test_a_room_that_is_joined_again_is_reported() -> None:
    room = ScriptedRoom()
    layout = LayoutPolicy(Layout(), Size(640, 360), 30, (AudioRoute("all"),))
    follower = TrackFollower(room, "room", RecordedPeople(layout, Recorded()))
    await follower.join()
    room.say(ConnectionLost("no packet"), Reconnected(1.5))
    await room.heard()
    await follower.close()
    assert [each.after_s async for each in follower.events() if isinstance(each, Rejoined)] == [1.5]
