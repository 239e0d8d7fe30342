"""A worker that records is lost, and another one goes on with the same egress, as another part of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from livekit.api import RoomParticipantIdentity, UpdateParticipantRequest

from testkit.fault_proxy import FaultProxy
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import Rect, counters, has_tone, mean_colour, probe, tones
from testkit.redis_server import RedisServer
from testkit.service import EgressClient, Info, Refused, Service
from testkit.stream_servers import RtmpServer, SrtListener
from testkit.websocket_receiver import WebsocketReceiver

FPS = 30
KEPT_S = 3.0
TAKEN_OVER_S = 15.0
"""After the death of a worker another one records."""
HEARD_S = 8.0
"""A worker that was just started waits as long as others may be silent."""
RECOVERED_S = 60.0
"""For a worker that returns to store its parts, two at a time, beside those that record."""
MAY_BE_LOST_S = 2.0
OVERLAP_S = 0.5
STEADY = AudioSpec(tone_hz=440, level=0.3)
CAMERA = VideoSpec(width=640, height=360, encoded=True)
CORNER = Rect(960, 600, 240, 80)
"""Of the picture, where a text is."""
LONGEST_S = 8
SMALL = {"width": 320, "height": 180, "framerate": FPS, "video_bitrate": 400, "key_frame_interval": 1}


@dataclass
class Cluster:
    folder: Path
    redis: RedisServer
    livekit: LivekitServer
    stack: AsyncExitStack

    async def worker(self, name: str, **config: Any) -> Service:
        config = {"redis": {"address": self.redis.address}, **config}
        return await self.stack.enter_async_context(
            Service(self.folder / name, self.livekit, config, "worker")
        )


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        livekit = await stack.enter_async_context(LivekitServer(redis_url=redis.url))
        yield Cluster(tmp_path, redis, livekit, stack)


async def start(client: EgressClient, room: str) -> str:
    info = await client.call(
        "StartRoomCompositeEgress",
        room_name=room,
        layout="grid?resume=true",
        file_outputs=[{"filepath": f"{room}.mp4"}],
    )
    egress_id = str(info["egress_id"])
    await client.active(egress_id)
    await asyncio.sleep(KEPT_S)
    return egress_id


async def taken_over(client: EgressClient, egress_id: str) -> Info:
    """The record once another worker has its first picture. It is active all the time."""
    async with asyncio.timeout(TAKEN_OVER_S):
        # The record tells nobody that it changes.
        while "Resumed" not in (info := await client.info(egress_id))["details"]:
            assert info["status"] == "EGRESS_ACTIVE", info
            await asyncio.sleep(0.05)
    assert info["status"] == "EGRESS_ACTIVE"
    return info


async def with_first_part(client: EgressClient, egress_id: str, status: str) -> Info:
    """The record once it says where all but the last file is; the status stays what it is."""
    info: Info = {}
    try:
        async with asyncio.timeout(RECOVERED_S):
            while True:
                info = await client.info(egress_id)
                assert info["status"] == status, info
                if all(each["location"] for each in info["file_results"][:-1]):
                    return info
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(info["file_results"]) from None


def manifest_of(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(info["manifest_location"]).read_text())
    return found


def check_parts(first: Path, second: Path, gap_s: float) -> None:
    """Each is whole by itself, and the counter of the second goes on behind the gap."""
    for path in (first, second):
        facts = probe(path)
        assert facts.video is not None and facts.video.rising and facts.audio is not None
        assert has_tone(tones(path, start_s=0.5, end_s=1.5), 440)
        assert facts.duration_s > KEPT_S - MAY_BE_LOST_S
    jump_s = (counters(second).values[0] - counters(first).values[-1]) / FPS
    assert gap_s - MAY_BE_LOST_S < jump_s < gap_s + MAY_BE_LOST_S, (jump_s, gap_s)


async def test_a_worker_that_is_killed_is_followed_by_another_and_adds_its_part(cluster: Cluster) -> None:
    """Behind a livekit-server, whose clients find the new worker; the old one returns before the end."""
    first = await cluster.worker("first")
    livekit = cluster.livekit
    async with (
        EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret) as client,
        Publisher(livekit, "lost", "ann", CAMERA, STEADY),
    ):
        egress_id = await start(client, "lost")
        second = await cluster.worker("second")
        await asyncio.sleep(HEARD_S)
        killed_s = await first.kill_all()
        info = await taken_over(client, egress_id)
        took_s = time.time() - killed_s
        assert took_s < TAKEN_OVER_S
        assert second.handler_pid()
        await first.start()
        await with_first_part(client, egress_id, "EGRESS_ACTIVE")
        info = await client.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    one, two = info["file_results"]
    assert [one["filename"], two["filename"]] == ["lost.mp4", "lost-00002.mp4"]
    (gap,) = manifest_of(info)["restarts"]
    gap_s = (gap["resumed_at"] - gap["lost_at"]) / 1e9
    assert 0 < gap_s < TAKEN_OVER_S
    check_parts(Path(one["location"]), Path(two["location"]), gap_s)
    assert Path(one["location"]).parent == first.out
    assert not list((first.data / "spool").glob("EG_*"))


async def test_a_worker_that_is_cut_off_notices_that_another_has_its_egress(tmp_path: Path) -> None:
    """In a cluster of our own, and only Redis is out of its reach. The egress has ended when it is back: what
    it recorded is a part of that, and its own end tells nobody anything."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, livekit = await enter(RedisServer()), await enter(LivekitServer())
        cut = await enter(FaultProxy(redis.port))
        address = {"redis": {"address": redis.address}}
        serve = await enter(Service(tmp_path / "serve", livekit, address))
        through = {"redis": {"address": f"127.0.0.1:{cut.port}"}}
        first = await enter(Service(tmp_path / "first", livekit, through, "worker"))
        await enter(Publisher(livekit, "cut", "ann", CAMERA, STEADY))
        egress_id = await start(serve, "cut")
        second = await enter(Service(tmp_path / "second", livekit, address, "worker"))
        await asyncio.sleep(HEARD_S)
        await cut.refuse()
        await taken_over(serve, egress_id)
        assert second.handler_pid()
        await asyncio.sleep(KEPT_S)
        info = await serve.finish(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert not info["file_results"][0]["location"]
        await cut.accept()
        info = await with_first_part(serve, egress_id, "EGRESS_COMPLETE")
        assert not [pid for pid in first.handlers() if first.records(pid)]
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    one, two = info["file_results"]
    assert [one["filename"], two["filename"]] == ["cut.mp4", "cut-00002.mp4"]
    assert manifest_of(info)["part"] == 2
    last, follows = counters(Path(one["location"])).values[-1], counters(Path(two["location"])).values[0]
    # The room has sent the first away when the second came.
    assert -OVERLAP_S < (follows - last) / FPS < MAY_BE_LOST_S


async def test_what_was_asked_of_it_goes_over_and_a_pause_goes_on(tmp_path: Path) -> None:
    """The limit counts both parts, the second has the text too, and nothing is recorded until somebody
    resumes it."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, livekit = await enter(RedisServer()), await enter(LivekitServer())
        address = {"redis": {"address": redis.address}}
        serve = await enter(Service(tmp_path / "serve", livekit, address))
        first = await enter(Service(tmp_path / "first", livekit, address, "worker"))
        await enter(Publisher(livekit, "asked", "ann", CAMERA, STEADY))
        egress_id = await start(serve, "asked")
        asked = {"max_duration": f"{LONGEST_S}s", "text": "MMMMMMMM", "text_size": "12%"}
        asked["text_corner"] = "bottom-right"
        await serve.control("SetOptions", egress_id, options=asked)
        await serve.control("PauseEgress", egress_id)
        second = await enter(Service(tmp_path / "second", livekit, address, "worker"))
        await asyncio.sleep(HEARD_S)
        await first.kill_all()
        with pytest.raises(Refused) as refused:
            await serve.control("ResumeEgress", egress_id)
        assert refused.value.code == "unavailable"
        info = await taken_over(serve, egress_id)
        assert "Paused" in info["details"] and second.handler_pid()
        await asyncio.sleep(KEPT_S)
        await serve.control("ResumeEgress", egress_id)
        resumed_ns = time.time_ns()
        info = await serve.wait(egress_id)
        assert info["status"] == "EGRESS_LIMIT_REACHED"
        await first.start()
        info = await with_first_part(serve, egress_id, "EGRESS_LIMIT_REACHED")
    one, two = (Path(each["location"]) for each in info["file_results"])
    (gap,), (pause,) = manifest_of(info)["restarts"], manifest_of(info)["pauses"]
    assert gap["resumed_at"] == gap["lost_at"], "nothing is missing of what was paused"
    assert abs(pause["resumed_at"] - resumed_ns) / 1e9 < 1.0
    facts = [probe(each) for each in (one, two)]
    assert sum(each.duration_s for each in facts) == pytest.approx(LONGEST_S, abs=1.0)
    paused_s = (pause["resumed_at"] - int(info["file_results"][0]["ended_at"])) / 1e9
    jump_s = (counters(two).values[0] - counters(one).values[-1]) / FPS
    assert jump_s == pytest.approx(paused_s, abs=1.0)
    before, after = (mean_colour(each, 0.2, CORNER) for each in (one, two))
    assert after[0] > before[0] + 30, (before, after)


async def test_a_livekit_server_takes_orders_in_the_gap_that_reach_nobody(cluster: Cluster) -> None:
    """It holds the place of the lost recorder, and throws away what was said to it when the next one joins. A
    pause stays, and ends when it is asked for again."""
    livekit, room = cluster.livekit, "gap"
    first = await cluster.worker("first")
    async with (
        EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret) as client,
        Publisher(livekit, room, "ann", CAMERA, STEADY),
    ):
        egress_id = await start(client, room)
        recorder = RoomParticipantIdentity(room=room, identity=egress_id)

        async def set_paused(value: str) -> None:
            await livekit.room_service().update_participant(
                UpdateParticipantRequest(room=room, identity=egress_id, attributes={"egress.paused": value})
            )

        async def paused_is(wanted: bool) -> None:
            async with asyncio.timeout(10):
                # The record tells nobody that it changes.
                while True:
                    if ("Paused" in (await client.info(egress_id))["details"]) is wanted:
                        return
                    await asyncio.sleep(0.05)

        await set_paused("true")
        await paused_is(True)
        await cluster.worker("second")
        await asyncio.sleep(HEARD_S)
        await first.kill_all()
        await set_paused("false")
        await client.call("UpdateLayout", egress_id=egress_id, layout="@resume")
        info = await taken_over(client, egress_id)
        assert "Paused" in info["details"]
        told = await livekit.room_service().get_participant(recorder)
        assert (told.metadata, dict(told.attributes)) == ("", {})
        await set_paused("false")
        await paused_is(False)
        await asyncio.sleep(KEPT_S)
        info = await client.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert len(manifest_of(info)["pauses"]) == 1


async def streams_are(client: EgressClient, egress_id: str, *statuses: str) -> list[Info]:
    """The results once each is so, and what is active has begun."""
    async with asyncio.timeout(20):
        while True:
            found: list[Info] = (await client.info(egress_id))["stream_results"]
            begun = all(each["status"] != "ACTIVE" or int(each["started_at"]) for each in found)
            if begun and [each["status"] for each in found] == list(statuses):
                return found
            await asyncio.sleep(0.05)


async def test_streams_are_dialled_by_the_worker_that_takes_over(cluster: Cluster) -> None:
    """The URL of the request and the one that was added; what had failed stays so, and what was removed. A
    listener on a websocket hears of the gap."""
    livekit, resumes = cluster.livekit, {"options": {"resume": "true"}}
    first = await cluster.worker("first", **resumes)
    with RtmpServer() as server:
        urls = [server.rtmp_url(path) for path in ("denied/1", "live/2", "live/3", "live/4")]
        async with (
            EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret) as client,
            WebsocketReceiver() as receiver,
            Publisher(livekit, "live", "ann", CAMERA, STEADY) as ann,
        ):
            started = await client.call(
                "StartRoomCompositeEgress",
                room_name="live",
                advanced=SMALL,
                stream_outputs=[{"protocol": "RTMP", "urls": urls[:2]}],
            )
            heard = await client.call(
                "StartTrackEgress",
                room_name="live",
                track_id=ann.sid("microphone"),
                websocket_url=f"ws://127.0.0.1:{receiver.port}/in?rate=16000&channels=1",
            )
            live_id, heard_id = started["egress_id"], heard["egress_id"]
            for egress_id in (live_id, heard_id):
                await client.active(egress_id)
            await client.call("UpdateStream", egress_id=live_id, add_output_urls=urls[2:])
            await streams_are(client, live_id, "FAILED", "ACTIVE", "ACTIVE", "ACTIVE")
            await client.call("UpdateStream", egress_id=live_id, remove_output_urls=urls[3:])
            before = await streams_are(client, live_id, "FAILED", "ACTIVE", "ACTIVE", "FINISHED")
            await cluster.worker("second", **resumes)
            await asyncio.sleep(HEARD_S)
            sent = len(server.recordings())
            await first.kill_all()
            for egress_id in (live_id, heard_id):
                await taken_over(client, egress_id)
            async with asyncio.timeout(20):
                while len(server.recordings()) < sent + 2:  # noqa: ASYNC110 - a folder tells nobody
                    await asyncio.sleep(0.05)
            after = await streams_are(client, live_id, "FAILED", "ACTIVE", "ACTIVE", "FINISHED")
            await receiver.has(sound_bytes=len(receiver.sound) + 64_000, texts=1)
            streamed, told = [await client.finish(egress_id) for egress_id in (live_id, heard_id)]
        assert [(each["url"], each["started_at"]) for each in before] == [
            (each["url"], each["started_at"]) for each in after
        ]
        *_, one, two = server.recordings()
        for path in (one, two):
            assert counters(path).in_order and has_tone(tones(path, start_s=0.5, end_s=1.5), 440)
    for info in (streamed, told):
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    statuses = [each["status"] for each in streamed["stream_results"]]
    assert statuses == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    assert after[0]["error"] == before[0]["error"]
    ((_, text),) = receiver.texts
    assert isinstance(text, dict)
    assert f"({text['gap_ms'] / 1000:.1f} s are missing)" in told["details"]


async def test_srt_streams_are_dialled_by_the_worker_that_takes_over(cluster: Cluster) -> None:
    """The URL of the request and the one that was added, whose servers have given up the first caller."""
    livekit, resumes = cluster.livekit, {"options": {"resume": "true"}}
    first = await cluster.worker("first", **resumes)
    with SrtListener() as one, SrtListener() as other:
        servers = (one, other)
        urls = [f"srt://127.0.0.1:{each.port}?streamid=a-long-key" for each in servers]
        async with (
            EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret) as client,
            Publisher(livekit, "srt", "ann", CAMERA, STEADY),
        ):
            started = await client.call(
                "StartRoomCompositeEgress",
                room_name="srt",
                advanced=SMALL,
                stream_outputs=[{"protocol": "SRT", "urls": urls[:1]}],
            )
            egress_id = str(started["egress_id"])
            await client.active(egress_id)
            await client.call("UpdateStream", egress_id=egress_id, add_output_urls=urls[1:])
            before = await streams_are(client, egress_id, "ACTIVE", "ACTIVE")
            await cluster.worker("second", **resumes)
            await asyncio.sleep(HEARD_S)
            await first.kill_all()
            for each in servers:
                await asyncio.to_thread(each.wait)
                await asyncio.to_thread(each.start)
            info = await taken_over(client, egress_id)
            for each in servers:
                await has_come(each.recordings[-1])
            after = await streams_are(client, egress_id, "ACTIVE", "ACTIVE")
            await asyncio.sleep(KEPT_S)
            info = await client.finish(egress_id)
            for each in servers:
                await asyncio.to_thread(each.wait)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert [each["status"] for each in info["stream_results"]] == ["FINISHED", "FINISHED"]
        assert [(each["url"], each["started_at"]) for each in before] == [
            (each["url"], each["started_at"]) for each in after
        ]
        for each in servers:
            old, new = each.recordings
            assert counters(old).in_order and counters(new).in_order
            assert counters(new).values[0] > counters(old).values[-1]
            assert has_tone(tones(new, start_s=0.5, end_s=1.5), 440)


async def has_come(path: Path) -> None:
    """Something of a stream is in the file."""
    async with asyncio.timeout(20):
        while not path.exists() or not path.stat().st_size:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)


async def test_files_of_every_kind_are_taken_over(cluster: Cluster) -> None:
    """Those that hold several tracks, that cannot be joined and that are split. The first worker is back
    before the end with its parts, and no name meets another."""
    livekit, resumes = cluster.livekit, {"options": {"resume": "true"}}
    first = await cluster.worker("first", **resumes)
    async with (
        EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret) as client,
        Publisher(livekit, "kinds", "ann", CAMERA, STEADY) as ann,
    ):

        async def started(method: str, **request: Any) -> str:
            info = await client.call(method, room_name="kinds", **request)
            return str(info["egress_id"])

        def file(path: str, file_type: str = "DEFAULT_FILETYPE") -> list[Info]:
            return [{"filepath": path, "file_type": file_type}]

        composite, track = "StartRoomCompositeEgress", "StartTrackEgress"
        split = {"layout": "grid?split_every=10s", "advanced": SMALL, "file_outputs": file("split.mp4")}
        names = {
            await started(composite, **split): [
                "split-00001.mp4",
                "split-00002.mp4",
                "split-00002-00001.mp4",
            ],
            await started(composite, audio_only=True, file_outputs=file("sound.ogg", "OGG")): [
                "sound.ogg",
                "sound-00002-00001.ogg",
            ],
            await started(composite, layout="tracks", file_outputs=file("all.mkv")): [
                "all.mkv",
                "all-00002-00001.mkv",
            ],
            await started(track, track_id=ann.sid("camera"), file={"filepath": "camera.webm"}): [
                "camera.webm",
                "camera-00002-00001.webm",
            ],
        }
        for egress_id in names:
            await client.active(egress_id)
        await cluster.worker("second", **resumes)
        await asyncio.sleep(HEARD_S + KEPT_S)  # and the split file is in its second part
        await first.kill_all()
        for egress_id in names:
            await taken_over(client, egress_id)
        await first.start()
        for egress_id in names:
            await with_first_part(client, egress_id, "EGRESS_ACTIVE")
        infos = [await client.finish(egress_id) for egress_id in names]
    for info, expected in zip(infos, names.values(), strict=True):
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        results = info["file_results"]
        assert [each["filename"] for each in results[: len(expected)]] == expected
        paths = [Path(each["location"]) for each in results]
        assert paths[0].parent == first.out != paths[-1].parent
        if expected[0] != "camera.webm":
            for path in paths[: len(expected)]:
                assert has_tone(tones(path, start_s=0.2, end_s=1.2), 440), path
        if expected[0] != "sound.ogg":
            found = [counters(path) for path in paths]
            assert all(each.in_order for each in found)
            (gap,) = manifest_of(info)["restarts"]
            gap_s = (gap["resumed_at"] - gap["lost_at"]) / 1e9
            second = len(expected) - 1
            jump_s = (found[second].values[0] - found[second - 1].values[-1]) / FPS
            assert gap_s - MAY_BE_LOST_S < jump_s < gap_s + MAY_BE_LOST_S, (jump_s, gap_s)
