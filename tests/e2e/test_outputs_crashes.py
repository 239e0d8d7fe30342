"""A handler killed while it makes HLS: the playlists end, every segment plays, and the record is true."""

import asyncio
import json
import os
import signal
from pathlib import Path

import m3u8
import pytest

from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Service

SEGMENT_S = 2
RECORDED_S = 6.5
MAY_BE_LOST_S = 2.0


@pytest.mark.parametrize(
    ("protocol", "extension"), [("DEFAULT_SEGMENTED_FILE_PROTOCOL", "ts"), ("HLS_FMP4_PROTOCOL", "m4s")]
)
async def test_a_killed_handler_leaves_a_playlist_that_ends(
    tmp_path: Path, protocol: str, extension: str
) -> None:
    async with PageServer() as pages, Service(tmp_path) as service:
        info = await service.call(
            "StartWebEgress",
            url=pages.url("pattern.html?tone=1"),
            advanced={"width": 640, "height": 360, "framerate": 30, "video_bitrate": 1000},
            segment_outputs=[
                {
                    "filename_prefix": "hls/page",
                    "live_playlist_name": "hls/live.m3u8",
                    "segment_duration": SEGMENT_S,
                    "protocol": protocol,
                }
            ],
            image_outputs=[{"capture_interval": 1, "filename_prefix": "shots/i"}],
        )
        egress_id = info["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(RECORDED_S)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.wait(egress_id, timeout_s=30)
        assert info["status"] == "EGRESS_FAILED"
        assert "killed by SIGKILL" in info["error"] and "is kept" in info["error"]
        [result] = info["segment_results"]
        path = service.out / "hls" / "page.m3u8"
        assert result["playlist_location"] == str(path)
        playlist = m3u8.load(str(path))
        assert playlist.is_endlist and m3u8.load(result["live_playlist_location"]).is_endlist
        assert [s.uri for s in playlist.segments] == [
            f"page_{n:05d}.{extension}" for n in range(int(result["segment_count"]))
        ]
        for n, segment in enumerate(playlist.segments[:-1]):
            assert abs(segment.duration - SEGMENT_S) < 1 / 30, n
        await asyncio.to_thread(check_plays, path, playlist)
        manifest = json.loads((service.out / "hls" / f"{egress_id}.json").read_text())
        assert info["manifest_location"] == str(service.out / "hls" / f"{egress_id}.json")
        assert [s["location"] for s in manifest["playlists"][0]["segments"]] == [
            str(path.parent / str(segment.uri)) for segment in playlist.segments
        ]
        assert len(manifest["images"]) == int(info["image_results"][0]["image_count"]) >= 5
        assert all(Path(image["location"]).is_file() for image in manifest["images"])
        assert list((service.data / "spool").glob("EG_*")) == []


def check_plays(path: Path, playlist: m3u8.M3U8) -> None:
    facts, read = probe(path), counters(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s > RECORDED_S - MAY_BE_LOST_S
    assert facts.video.duration_s == pytest.approx(sum(s.duration for s in playlist.segments), abs=0.1)
    assert facts.video.rising and facts.audio.contiguous
    assert read.in_order and read.unreadable == 0
