"""Tracks decoded, fitted, paced and mixed, from a real livekit-server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import pytest
from livekit.api import DeleteRoomRequest

from openegress.core.codecs import AudioCodec, Container
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.plan import (
    AudioEncoding,
    AudioRoute,
    FileOutput,
    MediaSource,
    ParticipantVideo,
    Plan,
    StreamOutput,
    StreamTarget,
    TrackVideo,
    VideoEncoding,
)
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.media.pipeline import EncodePipeline
from openegress.room.client import RoomClient
from openegress.source import Closed, Failed, SourceEvent
from openegress.source.room.awaited import WaitLimits
from openegress.source.room.frames_source import RoomFrameSource
from openegress.source.room.open import open_source
from openegress.source.room.track_follower import TrackFollower
from openegress.source.room.track_policy import RequestedTracks
from testkit import probe
from testkit.collectors import FileSink, FrameCollector
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec
from testkit.pattern import COLOURS, Rgb
from testkit.probe import Rect
from testkit.raw_publisher import RawPublisher, RawTrack

EGRESS = "EG_test"
PICTURE = VideoEncoding(640, 360, 30, 1500, 4.0)
SOUND = AudioEncoding(AudioCodec.AAC, 128, 48_000)
SHORT = WaitLimits(track_s=0.5, participant_s=0.5, absence_s=1.0, rejoin_s=5.0)


def media(server: LivekitServer, **what: object) -> MediaSource:
    return MediaSource("room", server.ws_url, server.recorder_token("room", EGRESS), **what)  # type: ignore[arg-type]


def plan_for(source: MediaSource, video: VideoEncoding | None = PICTURE, *, live: bool = False) -> Plan:
    file = FileOutput("out", None, StoragePlan(LocalStorage("/")))
    stream = StreamOutput("rtmp", (StreamTarget("rtmp://localhost/live/key", "rtmp://localhost/live/{key}"),))
    return Plan(EGRESS, source, (file, stream) if live else (file,), video, SOUND)


@asynccontextmanager
async def recording(
    source: MediaSource,
    sink: FrameCollector | EncodePipeline,
    video: VideoEncoding | None = PICTURE,
    patience: WaitLimits = SHORT,
    *,
    live: bool = False,
) -> AsyncIterator[tuple[RoomFrameSource, int]]:
    """A started source; stopped on exit."""
    frames = await open_source(plan_for(source, video, live=live), patience)
    assert isinstance(frames, RoomFrameSource)
    try:
        await frames.prepare()
        yield frames, await frames.start(sink)
    finally:
        await frames.stop()
        await frames.close()


async def shown(collector: FrameCollector, *, near: Rgb, counter: bool, within_s: float = 15) -> None:
    """Until the last picture is of a colour, with or without the pattern."""

    def condition(collected: FrameCollector) -> bool:
        if not collected.shown:
            return False
        last = collected.shown[-1]
        is_near = all(abs(a - b) < 12 for a, b in zip(last.colour, near, strict=True))
        return is_near and (last.counter is not None) is counter

    await asyncio.to_thread(collector.wait_for, condition, within_s)


async def end_of(source: RoomFrameSource, within_s: float = 10) -> SourceEvent:
    async with asyncio.timeout(within_s):
        async for event in source.events():
            if isinstance(event, Closed | Failed):
                return event
    raise AssertionError("no event said that the source ended")


BLACK = (0, 0, 0)


@pytest.mark.quiet
@pytest.mark.parametrize("codec", ["h264", "vp8", "vp9", "av1"])
async def test_track_composite_file(tmp_path: Path, codec: Codec) -> None:
    path = tmp_path / "out.mp4"
    errors: list[EgressError] = []
    pipeline = EncodePipeline(PICTURE, SOUND, steady=False, on_error=errors.append, hold_s=1.0)
    sink = FileSink(path, Container.MP4, pipeline.formats)
    pipeline.attach([sink], [])
    pipeline.start()
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec(codec, encoded=True), AudioSpec()) as alice,
    ):
        source = media(
            server,
            video=TrackVideo(alice.sid("camera")),
            audio=(AudioRoute("track", alice.sid("microphone")),),
        )
        async with recording(source, pipeline) as (_, zero_ns):
            await asyncio.sleep(9)
        sent = alice.sent_ns()
    await pipeline.finish()
    sink.close()

    assert errors == []
    facts = probe.probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.sizes == ((640, 360),)
    assert pipeline.dropped_frames == 0
    assert facts.video.frames == pytest.approx(9 * 30, abs=12)
    assert facts.video.fps == pytest.approx(30, abs=1)
    assert facts.video.duration_s == pytest.approx(9, abs=0.4) and facts.audio.contiguous
    assert facts.video.duration_s == pytest.approx(facts.audio.duration_s, abs=0.1)

    # One picture a slot, from the first; a publisher's tick may fall on the other side of a slot's.
    read = probe.counters(path)
    assert read.in_order and read.unreadable == 0
    assert read.unique > 0.95 * len(read.read)
    assert len(read.missing) <= 0.05 * len(read.read)

    offsets = [offset for _, offset in probe.av_offset(path).samples]
    assert abs(median(offsets)) < 40
    # A publisher on a busy machine may be late with a beep now and then; being out of step is another thing.
    assert sum(abs(offset) < 40 for offset in offsets) >= 0.8 * len(offsets)
    found = probe.tones(path)
    assert probe.has_tone(found, 300) and probe.has_tone(found, 1000)
    colour = probe.mean_colour(path, 3.5, Rect(240, 135, 160, 45))
    assert colour == pytest.approx(COLOURS[0], abs=8)
    for at_s, counter in read.read[30::60]:
        assert counter is not None
        assert abs(zero_ns + at_s * S - sent[counter]) < 80_000_000


@pytest.mark.quiet
async def test_pictures_that_are_sent_out_of_order_are_shown_in_order() -> None:
    """As OBS sends them over WHIP; each in its slot, and none lost."""
    collector = FrameCollector()
    camera = RawTrack("h264", b_frames=3)
    async with LivekitServer() as server, RawPublisher(server, "room", "obs", camera) as obs:
        source = media(server, video=TrackVideo(obs.sid("camera")))
        async with recording(source, collector) as (_, zero_ns):
            await asyncio.to_thread(collector.wait_for, lambda c: len(set(c.counters)) > 90)
        sent = {picture.counter: picture.at_ns for picture in obs.sent["camera"]}
        assert any(after.counter < before.counter for before, after in pairwise(obs.sent["camera"]))

    counters = collector.counters
    assert counters == sorted(counters)
    # A publisher's tick may fall on the other side of a slot's.
    unseen = [each for each in sent if counters[0] < each < counters[-1] and each not in counters]
    assert len(unseen) <= 0.05 * len(set(counters))
    late_ms = [
        (zero_ns + shown.pts_ns - sent[shown.counter]) / 1e6
        for shown, before in zip(collector.shown[31:], collector.shown[30:], strict=False)
        if shown.counter is not None and shown.counter != before.counter
    ]
    assert max(late_ms) - min(late_ms) < 70, "no picture is more than a slot from where it belongs"


async def test_channels_by_route() -> None:
    collector = FrameCollector()
    routes = (AudioRoute("kind", "agent", "left"), AudioRoute("not_kind", "agent", "right"))
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", audio=AudioSpec(500, level=0.2, beep_level=0)),
        Publisher(server, "room", "helper", audio=AudioSpec(300, level=0.2, beep_level=0), kind="agent"),
        recording(media(server, audio=routes), collector, None),
    ):
        await asyncio.sleep(6)
    assert collector.contiguous()
    left, right = (collector.tones(channel, 1, 4) for channel in (0, 1))
    assert [round(tone.hz, -1) for tone in left] == [300]
    assert [round(tone.hz, -1) for tone in right] == [500]
    assert left[0].level == pytest.approx(0.2, abs=0.03)


@pytest.mark.quiet
async def test_a_live_stream_begins_with_the_first_word() -> None:
    collector = FrameCollector()
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", audio=AudioSpec(500, level=0.1, beep_level=0)),
        recording(media(server, audio=(AudioRoute("all"),)), collector, None, live=True),
    ):
        await asyncio.to_thread(collector.wait_for, lambda it: len(it.audio_pts_ns) >= 75)
    assert collector.contiguous()
    assert probe.has_tone(collector.tones(0, 0.3, 1.3), 500)


class Slow(FrameCollector):
    """Takes a third of a second for a picture."""

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        time.sleep(0.3)
        super().video(frame, pts_ns)


@pytest.mark.quiet
async def test_an_end_that_comes_with_seconds_of_pictures_does_not_wait_for_all_of_them() -> None:
    """What waits for the first sender report is given out at once, to an encoder that is slow."""
    collector = Slow()
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec(width=320, height=180), AudioSpec(500)) as alice,
    ):
        wanted = media(server, video=TrackVideo(alice.sid("camera")), audio=(AudioRoute("all"),))
        async with recording(wanted, collector) as (source, _):
            await asyncio.sleep(5)
            begun_s = time.monotonic()
            await source.stop()
            took_s = time.monotonic() - begun_s
    assert took_s < 15, "150 pictures take 45 s"
    assert collector.contiguous() and len(collector.audio_pts_ns) > 4.5 * 50


@pytest.mark.quiet
async def test_late_joiner_is_heard_from_the_first_word() -> None:
    collector = FrameCollector()
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", audio=AudioSpec(500, level=0.1, beep_level=0)),
        recording(media(server, audio=(AudioRoute("all"),)), collector, None) as (_, zero_ns),
    ):
        await asyncio.sleep(4)
        async with Publisher(server, "room", "bob", audio=AudioSpec(300, level=0.1, beep_level=0)) as bob:
            joined_s = (bob.publishing_since_ns("microphone") - zero_ns) / S
            await asyncio.sleep(5)
    assert collector.contiguous()
    for channel in (0, 1):
        assert not probe.has_tone(collector.tones(channel, 1, joined_s), 300)
        assert probe.has_tone(collector.tones(channel, joined_s + 0.4, joined_s + 1.4), 300)
        assert probe.has_tone(collector.tones(channel, joined_s + 0.4, joined_s + 1.4), 500)


@pytest.mark.quiet
async def test_participant_through_mute_screen_share_and_leaving() -> None:
    collector = FrameCollector()
    camera = VideoSpec("vp8", 640, 360, colour=COLOURS[0], encoded=True)
    screen = VideoSpec("h264", 640, 360, fps=10, colour=COLOURS[1], encoded=True)
    async with LivekitServer() as server:
        source = media(
            server,
            video=ParticipantVideo("alice", prefer_screen_share=True),
            audio=(AudioRoute("participant", "alice"),),
            participant_identity="alice",
        )
        alice = Publisher(server, "room", "alice", camera, AudioSpec(level=0.2))
        await alice.join()
        async with recording(source, collector, patience=replace(SHORT, absence_s=5.0)) as (frames, _):
            await shown(collector, near=COLOURS[0], counter=True)
            alice.mute("camera")
            await shown(collector, near=BLACK, counter=False)
            alice.unmute("camera")
            await shown(collector, near=COLOURS[0], counter=True)
            await alice.publish("screen", screen)
            await shown(collector, near=COLOURS[1], counter=True)
            await alice.unpublish("screen")
            await shown(collector, near=COLOURS[0], counter=True)
            await alice.leave()
            await alice.join()
            await shown(collector, near=COLOURS[0], counter=True)
            await alice.leave()
            assert await end_of(frames) == Closed()
    pts = [each.pts_ns for each in collector.shown]
    assert pts == [n * S // 30 for n in range(len(pts))]
    assert collector.contiguous()


async def test_resolution_is_followed() -> None:
    collector = FrameCollector(tile=Rect(218, 0, 204, 360))
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec("vp8", 640, 360, kbps=1500)) as alice,
        recording(media(server, video=TrackVideo(alice.sid("camera"))), collector),
    ):
        await shown(collector, near=COLOURS[0], counter=False)
        alice.set_size(360, 640)
        await shown(collector, near=COLOURS[0], counter=True)
    assert {each.size for each in collector.shown} == {(640, 360)}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"single_track_id": "TR_none"}, "track TR_none not found"),
        ({"video": TrackVideo("TR_none")}, "track TR_none not found"),
        (
            {"video": ParticipantVideo("carol"), "participant_identity": "carol"},
            "participant carol not found",
        ),
    ],
)
async def test_what_is_not_there(what: dict[str, object], message: str) -> None:
    async with LivekitServer() as server, Publisher(server, "room", "alice", audio=AudioSpec()):
        with pytest.raises(EgressError) as refused:
            await open_source(plan_for(media(server, **what)), SHORT)
    assert (refused.value.code, refused.value.message) == (Code.NOT_FOUND, message)


async def test_participant_who_publishes_later() -> None:
    collector = FrameCollector()
    async with LivekitServer() as server, Publisher(server, "room", "alice") as alice:
        source = media(server, video=ParticipantVideo("alice"), participant_identity="alice")
        opening = asyncio.create_task(open_source(plan_for(source), SHORT))
        await asyncio.sleep(1)  # longer than a participant who is not there is waited for
        assert not opening.done()
        await alice.publish("camera", VideoSpec("vp8", encoded=True))
        frames = await opening
        assert isinstance(frames, RoomFrameSource)
        try:
            await frames.prepare()
            await frames.start(collector)
            await shown(collector, near=COLOURS[0], counter=True)
        finally:
            await frames.stop()
            await frames.close()


async def test_room_that_is_deleted() -> None:
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", audio=AudioSpec()),
        recording(media(server, audio=(AudioRoute("all"),)), FrameCollector(), None) as (frames, _),
    ):
        await server.room_service().delete_room(DeleteRoomRequest(room="room"))
        assert await end_of(frames) == Closed()


async def test_server_that_is_gone() -> None:
    async with LivekitServer() as server, Publisher(server, "room", "alice", audio=AudioSpec()):
        source = media(server, audio=(AudioRoute("all"),))
        client = RoomClient(source.ws_url, source.token, EGRESS, rejoin_for_s=1)
        session = TrackFollower(client, source.room_name, RequestedTracks(source, None))
        await session.join()
        frames = RoomFrameSource(session, None, with_audio=True)
        try:
            await frames.prepare()
            await frames.start(FrameCollector())
            await server.kill()
            event = await end_of(frames, within_s=30)
        finally:
            await frames.stop()
            await frames.close()
    assert isinstance(event, Failed) and event.error.phase is Phase.RECORDING
    assert event.error.message.startswith("recording ended early: connection to room failed: ")


@pytest.mark.quiet
async def test_killed_server_comes_back() -> None:
    collector = FrameCollector()
    async with (
        LivekitServer() as server,
        Publisher(server, "room", "alice", VideoSpec("vp8", encoded=True), AudioSpec(level=0.2)),
    ):
        source = media(
            server,
            video=ParticipantVideo("alice"),
            audio=(AudioRoute("participant", "alice"),),
            participant_identity="alice",
        )
        async with recording(source, collector, patience=WaitLimits()):
            await shown(collector, near=COLOURS[0], counter=True)
            await asyncio.sleep(2)
            before = collector.counters[-1]
            await server.kill()
            await server.restart()
            await asyncio.to_thread(
                collector.wait_for, lambda each: each.counters[-1] > before + 240 and each.is_moving(), 60
            )
            await asyncio.sleep(2)
    pts = [each.pts_ns for each in collector.shown]
    assert pts == [n * S // 30 for n in range(len(pts))]
    assert collector.contiguous()
    assert all(b >= a for a, b in pairwise(collector.counters))
    seconds = len(pts) / 30
    assert probe.has_tone(collector.tones(0, seconds - 2.5, seconds - 1.5), 300)
