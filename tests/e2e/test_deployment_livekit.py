"""A stock livekit-server, Redis and `openegress worker`: what a team sees that swaps the worker."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from livekit.api import RoomParticipantIdentity, UpdateParticipantRequest, UpdateRoomMetadataRequest

from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import Rect, colour_of, frames, probe
from testkit.redis_server import RedisServer
from testkit.service import EgressClient, Info, Refused, Service, end_reason, location
from testkit.webhook_receiver import VerifiedWebhooks

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAMERA = VideoSpec(width=320, height=180, fps=15, kbps=200)
SMALL = {"width": 320, "height": 180, "framerate": 15}
RECORDED_S = 2.0

Make = Callable[[Publisher, str], dict[str, Any]]


def file(path: str) -> dict[str, Any]:
    return {"file_outputs": [{"filepath": path}]}


KINDS: dict[str, tuple[str, Make, str]] = {
    "room": (
        "StartRoomCompositeEgress",
        lambda p, page: {"room_name": p.room_name, "layout": "grid", "advanced": SMALL, **file("room.mp4")},
        "av",
    ),
    "room-audio": (
        "StartRoomCompositeEgress",
        lambda p, page: {"room_name": p.room_name, "audio_only": True, **file("room.ogg")},
        "a",
    ),
    "web": ("StartWebEgress", lambda p, page: {"url": page, "advanced": SMALL, **file("web.mp4")}, "av"),
    "participant": (
        "StartParticipantEgress",
        lambda p, page: {
            "room_name": p.room_name,
            "identity": p.identity,
            "advanced": SMALL,
            **file("participant.mp4"),
        },
        "av",
    ),
    "track-composite": (
        "StartTrackCompositeEgress",
        lambda p, page: {
            "room_name": p.room_name,
            "audio_track_id": p.sid("microphone"),
            "video_track_id": p.sid("camera"),
            **file("composite.mp4"),
        },
        "av",
    ),
    "track": (
        "StartTrackEgress",
        lambda p, page: {
            "room_name": p.room_name,
            "track_id": p.sid("camera"),
            "file": {"filepath": "track"},
        },
        "v",
    ),
    "v2": (
        "StartEgress",
        lambda p, page: {
            "room_name": p.room_name,
            "media": {"audio": {"routes": [{"participant_identity": p.identity}]}},
            "outputs": [{"file": {"filepath": "v2.ogg"}}],
        },
        "a",
    ),
}


@dataclass(frozen=True, slots=True)
class World:
    livekit: LivekitServer
    egress: EgressClient
    worker: Service
    hooks: VerifiedWebhooks
    alice: Publisher
    page: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, hooks, pages = await enter(RedisServer()), await enter(VerifiedWebhooks()), PageServer()
        await enter(pages)
        livekit = await enter(LivekitServer(redis_url=redis.url, webhook_url=hooks.url))
        hooks.trust(livekit.api_key, livekit.api_secret)
        config = {"redis": {"address": redis.address}}
        folder = tmp_path_factory.mktemp("worker")
        worker = await enter(Service(folder, livekit, config, "worker"))
        egress = await enter(EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret))
        alice = await enter(Publisher(livekit, "stock", "alice", CAMERA, AudioSpec()))
        yield World(livekit, egress, worker, hooks, alice, pages.url("pattern.html?tone=1"))


async def cores_told(livekit: LivekitServer, egress_id: str) -> tuple[float, float]:
    """What livekit-server was told that an egress took, once it was."""
    pattern = re.compile(
        rf'received egress metrics.*"{egress_id}".*"avgCpu": ([0-9.e-]+), "maxCpu": ([0-9.e-]+)'
    )
    async with asyncio.timeout(10):
        # A log file tells nobody that it has grown.
        while (told := pattern.search(livekit.log)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return float(told[1]), float(told[2])


async def begin(world: World, kind: str) -> Info:
    method, make, _ = KINDS[kind]
    return await world.egress.call(method, **make(world.alice, world.page))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_request(world: World, kind: str) -> None:
    egress_id = (await begin(world, kind))["egress_id"]
    await world.egress.active(egress_id)
    listed = (await world.egress.call("ListEgress", active=True))["items"]
    assert [item["egress_id"] for item in listed] == [egress_id]
    shown = (await world.worker.dashboard())["egresses"][0]["info"]
    assert (shown["egress_id"], shown["status"]) == (egress_id, "EGRESS_ACTIVE")
    if kind == "room":
        await world.egress.call("UpdateLayout", egress_id=egress_id, layout="speaker-light")
        # livekit-server answers with the record as it was; the recorder is told by its metadata.
        asked = RoomParticipantIdentity(room=world.alice.room_name, identity=egress_id)
        recorder = await world.livekit.room_service().get_participant(asked)
        assert recorder.metadata == '{"layout":"speaker-light"}'
    with pytest.raises(Refused) as refused:
        await world.egress.call("UpdateStream", egress_id=egress_id, add_output_urls=["rtmp://h/a/k"])
    assert (refused.value.status, refused.value.code) == (400, "invalid_argument")
    await asyncio.sleep(RECORDED_S)
    info = await world.egress.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", ""), world.worker.log[-3000:]
    assert end_reason(info) == "End reason: StopEgress API"

    facts = probe(location(info))
    tracks = ("a" if facts.audio else "") + ("v" if facts.video else "")
    assert tracks == KINDS[kind][2]
    heard = facts.video or facts.audio
    assert heard is not None and heard.duration_s > RECORDED_S * 0.8
    assert location(info).is_relative_to(world.worker.out)

    await world.hooks.until(egress_id, "egress_ended")
    names = world.hooks.of(egress_id)
    assert names[0] == "egress_started"
    assert names[-1] == "egress_ended" and names.count("egress_ended") == 1
    assert set(names[1:-1]) == {"egress_updated"}
    assert world.hooks.refused == []
    mean, most = await cores_told(world.livekit, egress_id)
    assert 0 < mean <= most


async def test_options_come_by_the_layout(world: World) -> None:
    """What livekit-server hands on as a name; to what is wrong with it, it says what the worker says."""
    request = {"room_name": world.alice.room_name, "file_outputs": [{"filepath": "optional.mp4"}]}
    with pytest.raises(Refused) as refused:
        await world.egress.call("StartRoomCompositeEgress", layout="grid?max_duratoin=3s", **request)
    assert "layout.max_duratoin: unknown key; did you mean max_duration?" in refused.value.message
    layout = "speaker?max_duration=3s"
    started = await world.egress.call("StartRoomCompositeEgress", layout=layout, **request)
    assert started["room_composite"]["layout"] == layout
    info = await world.egress.wait(started["egress_id"])
    assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
    assert end_reason(info) == "End reason: max_duration reached"
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous and facts.video.rising
    assert 2.9 < facts.video.duration_s < 3.0 + 1.5  # a machine with other work may stop it so much later


async def test_how_it_looks_is_changed_through_it(world: World) -> None:
    """By the layout's query, which livekit-server hands on as a name to the recorder."""
    layout = "grid?recording_dot=true&text_size=20%25"
    request = {"room_name": world.alice.room_name, "advanced": SMALL, **file("looks.mp4")}
    started = await world.egress.call("StartRoomCompositeEgress", layout=layout, **request)
    await world.egress.active(started["egress_id"])
    await asyncio.sleep(RECORDED_S)
    await world.egress.call("UpdateLayout", egress_id=started["egress_id"], layout="?recording_dot=false")
    await asyncio.sleep(RECORDED_S)
    info = await world.egress.finish(started["egress_id"])
    pictures = [frame for _, frame in frames(location(info))]
    dots = [colour_of(pictures[at], Rect(14, 14, 16, 16))[0] > 180 for at in (SMALL["framerate"], -2)]
    assert dots == [True, False]


def is_paused(info: Info) -> bool:
    return "Paused" in info["details"].split("; ")


async def test_a_recording_is_steered_through_the_room(world: World) -> None:
    """By the room's metadata, by attributes of the recorder, and by UpdateLayout, as any SDK can."""
    room, service = world.alice.room_name, world.livekit.room_service()
    metadata = json.dumps({"egress": {"max_duration": "30s", "stop_when_idle": "soon"}})
    await service.update_room_metadata(UpdateRoomMetadataRequest(room=room, metadata=metadata))
    started = await world.egress.call("StartRoomCompositeEgress", room_name=room, **file("steered.mp4"))
    egress_id = started["egress_id"]
    await service.update_room_metadata(UpdateRoomMetadataRequest(room=room, metadata=""))
    assert "room metadata egress.stop_when_idle" in started["details"]
    await world.egress.active(egress_id)

    for paused in ("true", "false"):
        asked = {"room": room, "identity": egress_id, "attributes": {"egress.paused": paused}}
        await service.update_participant(UpdateParticipantRequest(**asked))
        async with asyncio.timeout(10):
            # A livekit-server tells webhooks of it, and nobody else.
            while is_paused(await world.egress.info(egress_id)) is (paused == "false"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await world.egress.call("UpdateLayout", egress_id=egress_id, layout="speaker?leave_out=alice")
    await world.worker.logged("changing leave_out of a running egress")
    await world.egress.call("UpdateLayout", egress_id=egress_id, layout="@marker=Steered")
    await world.egress.call("UpdateLayout", egress_id=egress_id, layout="speaker?max_duration=4s")
    info = await world.egress.wait(egress_id)
    assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
    assert end_reason(info).startswith("End reason: max_duration reached")
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert len(manifest["pauses"]) == 1
    assert [each["name"] for each in manifest["markers"]] == ["Steered"]
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None and facts.audio.contiguous
    assert 3.9 < facts.video.duration_s < 4.0 + 1.5


async def test_errors_are_the_workers_own_words(world: World) -> None:
    for method, request, code, words in (
        ("StopEgress", {"egress_id": "EG_none"}, "not_found", "egress"),
        (
            "UpdateStream",
            {"egress_id": "EG_none", "add_output_urls": ["rtmp://h/a/k"]},
            "not_found",
            "egress",
        ),
        ("StartWebEgress", {"url": "ftp://x/", **file("a.mp4")}, "invalid_argument", "web url"),
        ("StartWebEgress", {"url": world.page, **file("/etc/a.mp4")}, "invalid_argument", "/etc/a.mp4"),
    ):
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(Refused) as refused:
            await world.egress.call(method, **request)
        assert refused.value.code == code, refused.value
        assert words in refused.value.message
        if method.startswith("Start"):  # for the others livekit-server waits for workers nobody knows of
            assert asyncio.get_running_loop().time() - began_s < 5.0


async def test_nothing_is_left_of_them(world: World) -> None:
    assert list((world.worker.data / "spool").glob("EG_*")) == []
    assert list((world.worker.data / "unreported").glob("*")) == []
    assert len(world.worker.handlers()) <= 1  # one that waits for the next request


async def test_a_worker_waits_for_redis_and_can_be_stopped_meanwhile(tmp_path: Path) -> None:
    redis = RedisServer()
    worker = Service(tmp_path, None, {"redis": {"address": redis.address}}, "worker")
    for number in (signal.SIGINT, signal.SIGTERM):
        async with worker.launched():
            await worker.until_alive()
            assert not await worker.is_ready()
            async with asyncio.timeout(15):
                assert await worker.stop(number) == 0
    async with worker.launched(), redis:
        await worker.ready()
        assert await worker.stop() == 0
