"""What is recorded without a request: a real LiveKit server tells of its rooms."""

import asyncio
from pathlib import Path
from typing import Any

from livekit.api import DeleteRoomRequest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import counters, has_tone, tones
from testkit.service import Info, Service, location

HEARD_HZ = 660
KINDS = ("room_composite", "participant", "track")
SMALL = {"width": 320, "height": 180, "framerate": 30, "video_bitrate": 500}
RULE: dict[str, Any] = {
    "rooms": ["class-*"],
    "egress": {
        "room": {
            "layout": "grid",
            "advanced": SMALL,
            "file_outputs": [{"filepath": "{room_name}-{time}.mp4"}],
        },
        "participant": {"advanced": SMALL, "file_outputs": [{"filepath": "{publisher_identity}.mp4"}]},
        "tracks": {"filepath": "{track_source}", "disable_manifest": True},
    },
}
CAMERA = VideoSpec(width=320, height=180, kbps=400, encoded=True)


def listening(folder: Path, livekit: LivekitServer, rule: dict[str, Any]) -> Service:
    service = Service(folder, livekit, {"auto_start": [rule]})
    livekit.webhook_url = f"{service.url}/webhooks/livekit"
    return service


async def active(service: Service, room: str, count: int) -> list[Info]:
    async with asyncio.timeout(40):
        while True:
            items: list[Info] = (await service.call("ListEgress", room_name=room))["items"]
            ready = [item for item in items if item["status"] == "EGRESS_ACTIVE"]
            if len(ready) == count:
                return ready
            await asyncio.sleep(0.1)


async def test_a_room_its_people_and_their_tracks(tmp_path: Path) -> None:
    livekit = LivekitServer()
    service = listening(tmp_path, livekit, RULE)
    async with (
        livekit,
        service,
        Publisher(livekit, "meeting", "eve", CAMERA, AudioSpec()),
        Publisher(livekit, "class-7", "ann", CAMERA, AudioSpec(HEARD_HZ)),
    ):
        await active(service, "class-7", 4)
        await asyncio.sleep(3)
        await livekit.room_service().delete_room(DeleteRoomRequest(room="class-7"))
        items = (await service.call("ListEgress", room_name="class-7"))["items"]
        ended = [await service.wait(item["egress_id"]) for item in items]
        assert (await service.call("ListEgress", room_name="meeting"))["items"] == []
    assert [info["status"] for info in ended] == ["EGRESS_COMPLETE"] * 4
    kinds = [
        next(kind for kind in ("room_composite", "participant", "track") if kind in each) for each in ended
    ]
    assert sorted(kinds) == ["participant", "room_composite", "track", "track"]
    for info, kind in zip(ended, kinds, strict=True):
        path = location(info)
        if kind != "track":
            assert counters(path).in_order and has_tone(tones(path), HEARD_HZ), path
    names = {location(info).stem for info in ended}
    assert {"ann", "camera", "microphone"} < names


async def test_a_room_that_is_still_on_after_a_restart(tmp_path: Path) -> None:
    livekit = LivekitServer()
    service = listening(tmp_path, livekit, {"rooms": ["*"], "egress": {"room": RULE["egress"]["room"]}})
    async with livekit, service, Publisher(livekit, "class-7", "ann", CAMERA, AudioSpec(HEARD_HZ)):
        (first,) = await active(service, "class-7", 1)
        await asyncio.sleep(2)
        await service.kill_all()
        await service.start()
        broken_off = await service.wait(first["egress_id"])
        assert broken_off["status"] == "EGRESS_FAILED"
        (second,) = await active(service, "class-7", 1)
        # A server that was stopped in peace, and a recording that somebody stopped: it stays so.
        second = await service.finish(second["egress_id"])
        await service.stop()
        await service.start()
        await service.logged("auto_start has listed the rooms", 3)
        items = (await service.call("ListEgress", room_name="class-7"))["items"]
        assert {item["egress_id"] for item in items} == {first["egress_id"], second["egress_id"]}
    for info in (broken_off, second):
        assert counters(location(info)).in_order
