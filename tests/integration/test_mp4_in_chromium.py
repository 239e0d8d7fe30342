"""MP4 files in the player that most people have: Chromium's <video>, by way of what it shows and when."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openegress.core.codecs import VIDEO_TIME_BASE, MediaKind, VideoCodec
from openegress.media import Packet, StreamFormat
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.passthrough import reorder_depth, video_format
from openegress.media.plain_mp4 import make_plain, plain_copy
from openegress.source.room.picture_times import DecodeTimes
from testkit.browser_tab import Tab
from testkit.live_encoder import LiveEncoder, ReorderingEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec
from testkit.player_tab import open_player

pytestmark = pytest.mark.quiet

FPS = 30
PAGE = """<!doctype html><video muted src="out.mp4"></video><script>
const video = document.querySelector("video"), shown = [];
const seen = (_, frame) => {
  shown.push([frame.mediaTime, frame.width, frame.height]);
  video.requestVideoFrameCallback(seen);
};
video.requestVideoFrameCallback(seen);
const loaded = new Promise((resolve) => {
  video.onloadeddata = () => resolve("loaded");
  video.onerror = () => resolve(video.error.message);
});
const until = (name) => new Promise((resolve) => {
  video.addEventListener(name, () => resolve(name), { once: true });
});
</script>"""


def turned(sizes: Sequence[tuple[int, int]]) -> tuple[StreamFormat, list[Packet]]:
    """A second of each."""
    packets: list[Packet] = []
    for size in sizes:
        encoder, picture = LiveEncoder("h264", *size, FPS, 400), Picture(PictureSpec(*size, FPS, COLOURS[0]))
        for n in range(FPS):
            unit = encoder.encode(picture.draw(len(packets)), n, force_key=n == 0)
            pts = len(packets) * 3000
            packets.append(Packet(MediaKind.VIDEO, unit.data, pts, pts, 0, VIDEO_TIME_BASE, unit.is_key))
    return video_format(VideoCodec.H264, packets[0].data, *sizes[0]), packets


def written(folder: Path, form: StreamFormat, packets: Sequence[Packet], *, copied: bool = True) -> None:
    path = folder / "fragments.mp4"
    with path.open("wb", buffering=0) as file:
        writer = FragmentWriter(file.write, [form], header=file_header([form]))
        writer.open()
        for packet in packets:
            writer.write(packet)
        writer.close()
    if copied:
        plain_copy(path, folder / "out.mp4")
    else:
        make_plain(path)
        path.rename(folder / "out.mp4")


async def played(tab: Tab) -> list[list[float]]:
    """(media time, width, height) of what was shown until the end."""
    assert await tab.run("(async () => { const over = until('ended'); await video.play(); return over })()")
    assert await tab.run("video.error") is None
    shown: list[list[float]] = await tab.run("shown")
    return shown


@pytest.mark.parametrize("place", ["copied", "in place"])
async def test_a_phone_that_is_turned(tmp_path: Path, place: str) -> None:
    sizes = ((320, 192), (192, 320), (322, 182))
    written(tmp_path, *turned(sizes), copied=place == "copied")
    async with open_player(tmp_path, PAGE) as tab:
        assert await tab.run("video.duration") == pytest.approx(3.0, abs=0.01)
        shown = await played(tab)
        for second, size in enumerate(sizes):
            assert {(w, h) for at, w, h in shown if second + 0.01 < at < second + 0.99} == {size}
        # Whoever begins in the middle finds the parameters of what is there.
        await tab.run("(async () => { const over = until('seeked'); video.currentTime = 1.5; await over })()")
        await tab.becomes("[video.videoWidth, video.videoHeight]", list(sizes[1]))


@pytest.mark.parametrize("hours", [7, 25])
async def test_a_gap_of_hours(tmp_path: Path, hours: int) -> None:
    form, packets = turned([(320, 192), (320, 192)])
    by = hours * 3600 * 90_000
    late = [dataclasses.replace(p, pts=p.pts + by, dts=p.dts + by) for p in packets[FPS:]]
    written(tmp_path, form, [*packets[:FPS], *late])
    async with open_player(tmp_path, PAGE) as tab:
        end_s = hours * 3600 + 2
        assert await tab.run("video.duration") == pytest.approx(end_s, abs=0.01)
        await tab.run(
            f"(async () => {{ const s = until('seeked'); video.currentTime = {end_s - 0.9}; await s }})()"
        )
        shown = await played(tab)
        times = [at for at, _, _ in shown if at > 10]
        assert times[-1] == pytest.approx(end_s - 1 / FPS, abs=0.04)
        assert np.diff(times).max(initial=0) < 0.5


async def test_pictures_out_of_order(tmp_path: Path) -> None:
    encoder = ReorderingEncoder(320, 192, FPS, 400, 3)
    picture = Picture(PictureSpec(320, 192, FPS, COLOURS[0]))
    units = [unit for n in range(2 * FPS) for unit in encoder.encode(picture.draw(n), n, force_key=n == 0)]
    form = video_format(VideoCodec.H264, units[0].data, 320, 192)
    assert reorder_depth(form) == 2
    times: DecodeTimes[bytes] = DecodeTimes(reorder_depth(form))
    ordered = [timed for unit in units for timed in times.put(unit.pts * 3000, unit.data)] + times.flush()
    packets = [
        Packet(MediaKind.VIDEO, t.item, t.pts, t.dts, 0, VIDEO_TIME_BASE, n == 0)
        for n, t in enumerate(ordered)
    ]
    written(tmp_path, form, packets)
    async with open_player(tmp_path, PAGE) as tab:
        shown = [at for at, _, _ in await played(tab)]
    assert shown == sorted(shown)
    assert all(abs(at * FPS - round(at * FPS)) < 0.01 for at in shown), "on the grid they were captured on"
