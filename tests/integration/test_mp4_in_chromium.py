"""MP4 files in the player that most people have: Chromium's <video>, by way of what it shows and when."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openegress.core.codecs import VIDEO_TIME_BASE, H264Profile, MediaKind, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.canvas import Canvas
from openegress.media.encoder import VideoEncoder
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.passthrough import reorder_depth, video_format
from openegress.media.plain_mp4 import make_plain, plain_copy
from openegress.source.room.picture_times import DecodeTimes
from testkit.browser_tab import Tab
from testkit.live_encoder import LiveEncoder, ReorderingEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec
from testkit.player_tab import open_player

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


@pytest.mark.quiet
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


@pytest.mark.quiet
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


@pytest.mark.quiet
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


LUMA = """(() => {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = canvas.height = 1;
  pen.drawImage(video, 0, 0, 1, 1);
  return pen.getImageData(0, 0, 1, 1).data[1];
})()"""


@pytest.mark.parametrize("has_variable_rate", [False, True])
@pytest.mark.parametrize("profile", list(H264Profile))
async def test_pictures_that_were_put_in_without_an_encoder(
    tmp_path: Path, profile: H264Profile, has_variable_rate: bool
) -> None:
    """Still for two seconds, darker for one, and changing again in each slot."""
    size, canvas = (320, 180), Canvas(320, 180)
    encoding = VideoEncoding(
        *size, FPS, 500, 4.0, VideoCodec.H264, profile, has_variable_rate=has_variable_rate
    )
    encoder = VideoEncoder(encoding, steady=False)
    packets: list[Packet] = []
    for slot in range(4 * FPS):
        if slot in (0, 2 * FPS) or slot >= 3 * FPS:
            canvas.fill(canvas.whole, (200 if slot < 2 * FPS else 60 + slot // FPS + slot % FPS, 128, 128))
        packets += encoder.encode(canvas.picture(), slot * S // FPS)
    packets += encoder.flush()
    assert [packet.is_key for packet in packets].count(True) == 1
    assert (len(packets) == 4 * FPS) != has_variable_rate
    written(tmp_path, encoder.format, packets)
    async with open_player(tmp_path, PAGE) as tab:
        assert await tab.run("loaded") == "loaded"
        assert await tab.run("video.duration") == pytest.approx(4.0, abs=0.01)
        levels = []
        for at_s in (1.5, 1.95, 2.05, 2.95, 3.95):
            await tab.run(
                f"(async () => {{ const s = until('seeked'); video.currentTime = {at_s}; await s }})()"
            )
            levels.append(await tab.run(LUMA))
        await played(tab)
    expected = [(level - 16) * 255 / 219 for level in (200, 200, 62, 62, 91)]
    assert levels == pytest.approx(expected, abs=4)
