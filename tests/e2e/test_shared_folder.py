"""Recordings of rooms that share a folder, to which only the service writes."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import m3u8
import psutil

from testkit.livekit_server import LivekitServer
from testkit.participants import Publisher, VideoSpec
from testkit.probe import probe
from testkit.service import Service, location

CAMERA = VideoSpec("h264", width=320, height=180, kbps=400, encoded=True)
WITHIN_S = 30.0


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110 - a folder tells nobody
            await asyncio.sleep(0.1)


def listed(playlist: Path) -> list[Path]:
    """The segments of a playlist; none before there is one."""
    if not playlist.exists():
        return []
    return [playlist.parent / str(segment.uri) for segment in m3u8.load(str(playlist)).segments]


async def test_segments_and_pictures_appear_while_a_room_is_recorded(tmp_path: Path) -> None:
    async with (
        LivekitServer() as livekit,
        Publisher(livekit, "calls", "ann", CAMERA),
        Service(tmp_path, livekit) as service,
    ):
        folder = service.out / "all"
        folder.mkdir(parents=True)
        (folder / "theirs.mp4").write_text("a recording")
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name="calls",
            file_outputs=[{"filepath": "all/call.mp4"}],
            segment_outputs=[
                {
                    "filename_prefix": "all/hls",
                    "live_playlist_name": "all/live.m3u8",
                    "segment_duration": 1,
                }
            ],
            image_outputs=[{"capture_interval": 1, "filename_prefix": "all/shot"}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        # The last of three segments: each came with a playlist that replaced the one before.
        await until(lambda: len(listed(folder / "live.m3u8")) >= 3)
        assert all(segment.stat().st_size for segment in listed(folder / "live.m3u8"))
        assert not m3u8.load(str(folder / "live.m3u8")).is_endlist
        await until(lambda: list(folder.glob("shot_*.jpeg")))
        assert not (folder / "call.mp4").exists()
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.wait(egress_id, timeout_s=WITHIN_S)
        assert "is kept" in info["error"]
        assert probe(folder / "call.mp4").video is not None
        assert m3u8.load(str(folder / "hls.m3u8")).is_endlist
        assert all(segment.exists() for segment in listed(folder / "hls.m3u8"))
        assert (folder / f"{egress_id}.json").exists()
        assert (folder / "theirs.mp4").read_text() == "a recording"
        assert not list(folder.glob(".*")) and not list(service.data.glob("spool/EG_*"))


async def test_a_name_that_only_the_room_knew_outlives_the_service(tmp_path: Path) -> None:
    async with LivekitServer() as livekit, Publisher(livekit, "calls", "ann", CAMERA) as ann:
        service = Service(tmp_path, livekit)
        async with service:
            started = await service.call(
                "StartTrackEgress",
                room_name="calls",
                track_id=ann.sid("camera"),
                file={"filepath": "all/{publisher_identity}.mp4"},
            )
            egress_id = started["egress_id"]
            await service.active(egress_id)
            await asyncio.sleep(2.0)
            handler = psutil.Process(service.handler_pid())
            await service.kill()
            await asyncio.to_thread(handler.wait, 20)
            assert not (service.out / "all").exists()
            await service.start()
            info = await service.wait(egress_id, timeout_s=WITHIN_S)
            assert location(info) == service.out / "all" / "ann.mp4"
            assert probe(location(info)).video is not None
            assert not list(service.data.glob("spool/EG_*"))
