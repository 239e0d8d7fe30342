"""hls.js in Chromium plays the playlists while they are recorded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from openegress.core import plan, storages
from openegress.core.codecs import Container
from openegress.core.units import S
from openegress.output import Opening
from openegress.output.hls.recorder import HlsRecorder
from openegress.storage.uploader import Uploader
from testkit.browser_tab import Tab, open_tab
from testkit.encoded import Encoded, PassedThrough, Spec, turning
from testkit.local_app import serving
from testkit.node_packages import install
from testkit.page_server import PageServer
from testkit.service import Service

PLAYER = Path(__file__).parents[2] / "tools" / "hls-player"


@pytest.fixture(scope="module")
def player() -> Path:
    """Its folder, with hls.js in it."""
    return install(PLAYER, "hls.js")


@asynccontextmanager
async def served(player: Path, recordings: Path) -> AsyncIterator[str]:
    """The player at /, what is recorded below /out."""
    recordings.mkdir(parents=True, exist_ok=True)
    app = web.Application()
    app.router.add_static("/out", recordings)
    app.router.add_static("/", player)
    async with serving(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("protocol", ["DEFAULT_SEGMENTED_FILE_PROTOCOL", "HLS_FMP4_PROTOCOL"])
async def test_hls_js_plays_what_is_being_recorded(player: Path, tmp_path: Path, protocol: str) -> None:
    async with (
        PageServer() as pages,
        Service(tmp_path) as service,
        served(player, service.out) as base,
        open_tab(640, 360) as tab,
    ):
        info = await service.call(
            "StartWebEgress",
            url=pages.url("pattern.html?tone=1"),
            advanced={"width": 320, "height": 180, "framerate": 15, "video_bitrate": 300},
            segment_outputs=[
                {
                    "filename_prefix": "hls/page",
                    "live_playlist_name": "hls/live.m3u8",
                    "segment_duration": 1,
                    "protocol": protocol,
                }
            ],
        )
        egress_id = info["egress_id"]
        await service.active(egress_id)
        await appears(service.out / "hls" / "live.m3u8")
        await tab.open(f"{base}/player.html?src=/out/hls/live.m3u8")
        await tab.becomes("document.readyState", "complete")
        await tab.becomes("video.currentTime > 3", True)
        assert await tab.run("state.live") is True
        assert (await service.info(egress_id))["status"] == "EGRESS_ACTIVE"
        info = await service.finish(egress_id)
        await ends(tab)
        await check(tab, int(info["segment_results"][0]["segment_count"]))


async def test_hls_js_plays_fmp4_over_a_change_of_format(player: Path, tmp_path: Path) -> None:
    """Its decoder gets the parameters from the initialisation segments alone."""
    out = tmp_path / "out"
    out.mkdir()
    storage = storages.StoragePlan(storages.LocalStorage(str(out)), retry_for_s=0)
    segments = plan.SegmentOutput("", "s", "p.m3u8", "", 2, Container.FMP4, False, storage)
    output = HlsRecorder(segments, 0, emit=lambda _: None, uploader=Uploader(storage))
    formats = PassedThrough(Spec(width=160, height=90, steady=True)).formats
    output.open(Opening(formats, 1_700_000_000 * S, str(tmp_path), {}))
    for packet in turning():
        output.write(packet)
    await output.finish(1_700_000_012 * S)
    async with served(player, out) as base, open_tab(640, 360) as tab:
        await tab.open(f"{base}/player.html?src=/out/p.m3u8")
        await tab.becomes("document.readyState", "complete")
        for half in ("video.currentTime > 6", "state.ended"):
            await tab.becomes(f"{half} || Boolean(state.fatal)", True)
        assert await tab.run("state.errors") == []
        assert await tab.run("state.sizes") == [[160, 90], [90, 160], [160, 90]]
        assert await tab.run("video.currentTime") == pytest.approx(12, abs=0.2)
        assert await tab.run("video.getVideoPlaybackQuality().totalVideoFrames > 300")


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_hls_js_plays_a_variable_rate_without_a_gap(
    player: Path, tmp_path: Path, container: Container
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    storage = storages.StoragePlan(storages.LocalStorage(str(out)), retry_for_s=0)
    segments = plan.SegmentOutput("", "s", "p.m3u8", "", 2, container, False, storage)
    output = HlsRecorder(segments, 0, emit=lambda _: None, uploader=Uploader(storage))
    encoded = Encoded(Spec(seconds=9.0, shown_for=80, has_variable_rate=True))
    output.open(Opening(encoded.formats, 1_700_000_000 * S, str(tmp_path), {}))
    for packet in encoded.packets():
        output.write(packet)
    await output.finish(1_700_000_009 * S)
    async with served(player, out) as base, open_tab(640, 360) as tab:
        await tab.open(f"{base}/player.html?src=/out/p.m3u8")
        await tab.becomes("document.readyState", "complete")
        await tab.becomes("video.buffered.length > 0 && video.buffered.end(0) > 8.9", True)
        assert await tab.run("video.buffered.length") == 1
        await tab.becomes("state.ended || Boolean(state.fatal)", True, within_s=30)
        assert await tab.run("state.errors") == []
        assert await tab.run("video.currentTime") == pytest.approx(9, abs=0.1)


async def ends(tab: Tab) -> None:
    """What is left to play takes as long as it is, and longer on a busy machine."""
    try:
        await tab.becomes("state.ended", True, within_s=30)
    except AssertionError:
        buffered = "[...Array(video.buffered.length).keys()].map(i => video.buffered.end(i))"
        where = (
            f"time: video.currentTime, paused: video.paused, ready: video.readyState, buffered: {buffered}"
        )
        pytest.fail("the player does not end: " + await tab.run(f"JSON.stringify({{...state, {where}}})"))


async def appears(path: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            if path.exists():
                return
            await asyncio.sleep(0.05)


async def check(tab: Tab, segment_count: int) -> None:
    assert await tab.run("state.fatal") == ""
    assert await tab.run("state.live") is False
    fragments = await tab.run("state.fragments")
    numbers = sorted({n for n in fragments if isinstance(n, int)})
    # Each from where it joined to the last, none twice and none left out.
    assert numbers == list(range(numbers[0], segment_count))
    assert await tab.run("[video.videoWidth, video.videoHeight]") == [320, 180]
    assert await tab.run("video.getVideoPlaybackQuality().totalVideoFrames > 40")
