"""File, segments, stream and images of one request: one encode, each whole, each with a result of its own."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import m3u8
import pytest
import pytest_asyncio

from testkit.page_server import PageServer
from testkit.pattern import read_counter
from testkit.probe import counters, frames, luma_of, probe
from testkit.service import Info, Service, location
from testkit.stream_servers import RtmpServer, SrtListener

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

SEGMENT_S = 2
FRAME_S = 1 / 30
SMALL = {"width": 640, "height": 360, "framerate": 30, "video_bitrate": 1500}
"""Pictures in which the pattern can be read, at a third of the cost."""


@dataclass(frozen=True, slots=True)
class Web:
    url: str
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Web]:
    async with PageServer() as pages, Service(tmp_path_factory.mktemp("together")) as service:
        yield Web(pages.url("pattern.html?tone=1"), service)


@contextlib.contextmanager
def receiver(protocol: str) -> Iterator[tuple[str, RtmpServer | SrtListener]]:
    if protocol == "RTMP":
        with RtmpServer() as rtmp:
            yield rtmp.rtmp_url("live/a-long-key"), rtmp
    else:
        with SrtListener() as srt:
            yield f"srt://127.0.0.1:{srt.port}?streamid=a-long-key", srt


@pytest.mark.parametrize(
    ("protocol", "segments", "extension"),
    [("RTMP", "DEFAULT_SEGMENTED_FILE_PROTOCOL", "ts"), ("SRT", "HLS_FMP4_PROTOCOL", "m4s")],
)
async def test_all_outputs_of_one_request(web: Web, protocol: str, segments: str, extension: str) -> None:
    home = f"all-{extension}"
    with receiver(protocol) as (url, server):
        info = await web.service.call(
            "StartWebEgress",
            url=web.url,
            advanced=SMALL,
            file_outputs=[{"filepath": f"{home}/page.mp4"}],
            segment_outputs=[
                {
                    "filename_prefix": f"{home}/hls/page",
                    "live_playlist_name": f"{home}/hls/live.m3u8",
                    "segment_duration": SEGMENT_S,
                    "protocol": segments,
                }
            ],
            stream_outputs=[{"protocol": protocol, "urls": [url]}],
            image_outputs=[
                {"capture_interval": 2, "width": 320, "height": 180, "filename_prefix": f"{home}/shots/i"},
                {
                    "capture_interval": 1,
                    "filename_prefix": f"{home}/now",
                    "filename_suffix": "IMAGE_SUFFIX_NONE_OVERWRITE",
                    "disable_manifest": True,
                },
            ],
        )
        egress_id = info["egress_id"]
        await web.service.active(egress_id)
        folder = web.service.out / home
        await watch_playlist(folder / "hls" / "page.m3u8", segments_wanted=3)
        await watch_counts(web.service, egress_id)
        info = await web.service.finish(egress_id)
        if isinstance(server, SrtListener):
            await asyncio.to_thread(server.wait)
        await asyncio.to_thread(check_all, info, folder, extension, received(server))


def received(server: RtmpServer | SrtListener) -> list[Path]:
    return server.recordings() if isinstance(server, RtmpServer) else server.recordings


async def watch_counts(service: Service, egress_id: str) -> None:
    """What clients and the dashboard see of segments and images while they are made."""
    async with asyncio.timeout(15):
        while True:
            info = await service.info(egress_id)
            shown = (await service.dashboard())["egresses"][0]["info"]
            assert info["status"] == "EGRESS_ACTIVE"
            counts = [
                int(part.get(name, 0))
                for each in (info, shown)
                for part, name in (
                    (each["segment_results"][0], "segment_count"),
                    (each["image_results"][0], "image_count"),
                )
            ]
            if min(counts) >= 2:
                return
            await asyncio.sleep(0.1)


async def watch_playlist(path: Path, segments_wanted: int) -> None:
    """Until it names so many segments; whenever it is looked at, it is valid and names what is there."""
    async with asyncio.timeout(40):
        while True:
            if path.exists():
                playlist = m3u8.load(str(path))
                assert not playlist.is_endlist
                assert all((path.parent / str(segment.uri)).is_file() for segment in playlist.segments)
                assert all(
                    segment.duration <= playlist.target_duration + 0.5 for segment in playlist.segments
                )
                if len(playlist.segments) >= segments_wanted:
                    return
            await asyncio.sleep(0.05)


def check_all(info: Info, folder: Path, extension: str, received: list[Path]) -> None:
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", ""), info
    [stream] = info["stream_results"]
    assert (stream["status"], stream["error"], stream["retries"]) == ("FINISHED", "", 0)
    assert "a-long-key" not in json.dumps(info)
    shown = pictures(location(info))
    assert counters(location(info)).in_order
    check_segments(info, folder / "hls", extension, shown)
    [recording] = received
    sent = pictures(recording)
    assert len(sent) > 0.8 * len(shown)
    begin = shown.index(sent[0])
    # Every picture from its first key frame on, but for what a live server cuts off at the end.
    assert shown[begin : begin + len(sent)] == sent
    assert len(shown) - begin - len(sent) <= 3
    assert int(stream["duration"]) / 1e9 == pytest.approx(len(sent) * FRAME_S, abs=0.3)
    check_images(info, folder)
    check_manifest(info, folder)


def check_segments(info: Info, folder: Path, extension: str, shown: list[bytes]) -> None:
    [result] = info["segment_results"]
    path = folder / "page.m3u8"
    assert result["playlist_location"] == str(path)
    assert result["live_playlist_location"] == str(folder / "live.m3u8")
    playlist, live = m3u8.load(str(path)), m3u8.load(str(folder / "live.m3u8"))
    assert playlist.is_endlist and live.is_endlist
    assert int(result["segment_count"]) == len(playlist.segments)
    assert all(abs(s.duration - SEGMENT_S) < FRAME_S for s in playlist.segments[:-1])
    assert [s.uri for s in playlist.segments] == [
        f"page_{n:05d}.{extension}" for n in range(len(playlist.segments))
    ]
    assert [s.uri for s in live.segments] == [s.uri for s in playlist.segments][-5:]
    begun_s = int(result["started_at"]) / 1e9
    assert playlist.segments[0].program_date_time.timestamp() == pytest.approx(begun_s, abs=FRAME_S)
    sizes = sum((folder / str(s.uri)).stat().st_size for s in playlist.segments)
    assert int(result["size"]) == sizes
    assert pictures(path) == shown
    facts, file = probe(path), probe(location(info))
    assert facts.video is not None and facts.audio is not None and file.audio is not None
    assert facts.video.rising and facts.audio.contiguous
    assert facts.audio.duration_s == pytest.approx(file.audio.duration_s, abs=0.06)
    assert int(result["duration"]) / 1e9 == pytest.approx(facts.video.duration_s, abs=0.1)


def check_images(info: Info, folder: Path) -> None:
    every_2s, latest = info["image_results"]
    images = sorted((folder / "shots").glob("*.jpeg"))
    count = int(every_2s["image_count"])
    assert [image.name for image in images] == [f"i_{n:05d}.jpeg" for n in range(count)]
    assert count == pytest.approx(int(info["file_results"][0]["duration"]) / 1e9 / 2, abs=1)
    read = [seen(image) for image in images]
    assert all(size == (320, 180) for size, _ in read)
    numbers = [counter for _, counter in read]
    # 60 pictures apart, as far as the page kept its rate.
    assert all(a is not None and b is not None and a < b for a, b in pairwise(numbers))
    assert int(latest["image_count"]) > count
    size, counter = seen(folder / "now.jpeg")
    assert size == (640, 360)
    assert counter is not None and counter >= (numbers[-1] or 0)


def check_manifest(info: Info, folder: Path) -> None:
    name = f"{info['egress_id']}.json"
    places = [folder / name, folder / "hls" / name, folder / "shots" / name]
    assert info["manifest_location"] == str(places[0])
    texts = {place.read_text() for place in places}
    assert len(texts) == 1
    said: dict[str, Any] = json.loads(texts.pop())
    assert said["egress_id"] == info["egress_id"]
    assert said["files"][0]["location"] == info["file_results"][0]["location"]
    [playlist] = said["playlists"]
    assert playlist["location"] == info["segment_results"][0]["playlist_location"]
    listed = m3u8.load(playlist["location"]).segments
    assert [s["location"] for s in playlist["segments"]] == [str(folder / "hls" / str(s.uri)) for s in listed]
    shots = [image["location"] for image in said["images"] if "/shots/" in image["location"]]
    assert shots == [str(path) for path in sorted((folder / "shots").glob("*.jpeg"))]
    assert [i["location"] for i in said["images"] if "/shots/" not in i["location"]] == [
        str(folder / "now.jpeg")
    ]


def pictures(path: Path) -> list[bytes]:
    """A digest of each picture: the same of two files only if both hold the same encode."""
    return [hashlib.md5(luma_of(frame).tobytes()).digest() for _, frame in frames(path)]


def seen(image: Path) -> tuple[tuple[int, int], int | None]:
    with av.open(str(image)) as container:
        picture = next(container.decode(video=0))
    return (picture.width, picture.height), read_counter(luma_of(picture))
