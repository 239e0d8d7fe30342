"""VP8 in WebM as our encoders and clusters make it: what FFmpeg reads of it, and what Chromium shows."""

import asyncio
from pathlib import Path

import av
import numpy as np
import pytest

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media.canvas import Canvas, yuv_of
from openegress.media.cluster_index import make_seekable
from openegress.media.clusters import ClusterWriter
from openegress.media.encoder import AudioEncoder, VideoEncoder
from openegress.media.geometry import Rect
from testkit.pattern import Rgb
from testkit.player_tab import open_player
from testkit.probe import has_tone, probe, tones

WIDTH, HEIGHT, FPS, SECONDS = 320, 192, 30, 3
COLOURS: tuple[Rgb, ...] = ((220, 30, 30), (30, 180, 60), (40, 60, 210))
"""One a second: far from grey, so that a wrong matrix shows."""
TONE_HZ = 440
PAGE = """<!doctype html><video src="out.webm"></video><script>
const video = document.querySelector("video");
const loaded = new Promise((resolve) => {
  video.onloadeddata = () => resolve("loaded");
  video.onerror = () => resolve(video.error.message);
});
const until = (name) => new Promise((resolve) => {
  video.addEventListener(name, () => resolve(name), { once: true });
});
const shown = () => {
  const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext("2d");
  context.drawImage(video, 100, 100, 1, 1, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
</script>"""


def make(path: Path, kbps: int = 500, *, close: bool = True) -> None:
    """Three seconds: a colour each and a tone, with key frames every second. `close`: as a recording ends,
    else as a kill leaves it."""
    pictures = VideoEncoder(VideoEncoding(WIDTH, HEIGHT, FPS, kbps, 1.0, VideoCodec.VP8), steady=False)
    sound = AudioEncoder(AudioEncoding(AudioCodec.OPUS, 64, 48_000))
    with path.open("wb", buffering=0) as file:
        writer = ClusterWriter(file.write, [pictures.format, sound.format])
        writer.open()
        for n in range(SECONDS * FPS):
            canvas = Canvas(WIDTH, HEIGHT)
            canvas.fill(canvas.whole, yuv_of(*COLOURS[n // FPS]))
            canvas.fill(Rect(2 * n, 0, 16, 16), yuv_of(255, 255, 255))
            at = np.arange(n * 48_000 // FPS, (n + 1) * 48_000 // FPS)
            wave = (np.sin(2 * np.pi * TONE_HZ * at / 48_000) * 8000).astype(np.int16)
            packets = pictures.encode(canvas.picture(), n * S // FPS)
            packets += sound.encode(np.repeat(wave, 2).tobytes(), n * S // FPS, 48_000)
            for packet in packets:
                writer.write(packet)
        if close:
            for packet in pictures.flush() + sound.flush():
                writer.write(packet)
            writer.close()
    assert make_seekable(path)


@pytest.mark.parametrize("close", [True, False])
def test_what_ffmpeg_reads(tmp_path: Path, close: bool) -> None:
    path = tmp_path / "out.webm"
    make(path, close=close)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert (facts.video.codec, facts.audio.codec) == ("vp8", "opus")
    assert facts.video.frames == SECONDS * FPS if close else facts.video.frames >= (SECONDS - 0.5) * FPS
    assert facts.video.key_frames_s == pytest.approx([0.0, 1.0, 2.0], abs=0.002)
    assert facts.video.rising and facts.audio.contiguous
    assert facts.video.start_s == pytest.approx(facts.audio.start_s, abs=0.001)
    assert facts.duration_s == pytest.approx(SECONDS, abs=0.05 if close else 0.6)
    assert has_tone(tones(path, start_s=0.5), TONE_HZ)


@pytest.mark.parametrize("kbps", [500, 2000])
def test_the_rate_is_a_ceiling(kbps: int) -> None:
    asked = VideoEncoding(640, 360, FPS, kbps, 2.0, VideoCodec.VP8)
    encoder, texture = VideoEncoder(asked, steady=False), np.random.default_rng(1)
    luma = texture.integers(60, 180, (360, 640), np.uint8)
    chroma = np.full((180, 640), 128, np.uint8)
    seconds, bits = 4, 0
    for n in range(seconds * FPS):
        moved = np.concatenate((np.roll(luma, 3 * n, 1), chroma))
        frame = av.VideoFrame.from_ndarray(moved, format="yuv420p")
        packets = encoder.encode(frame, n * S // FPS)
        assert len(packets) == 1, "no picture is held back, and none is left out"
        bits += len(packets[0].data) * 8
    # As of H.264: what an encoder may spend at once comes to two seconds of its rate.
    assert bits < kbps * 1000 * (seconds + 2)


async def test_what_chromium_shows(tmp_path: Path) -> None:
    await asyncio.to_thread(make, tmp_path / "out.webm")
    async with open_player(tmp_path, PAGE) as tab:
        assert await tab.run("video.duration") == pytest.approx(SECONDS, abs=0.05)
        for second, colour in enumerate(COLOURS):
            seek = f"video.currentTime = {second + 0.5}; await s"
            await tab.run(f"(async () => {{ const s = until('seeked'); {seek} }})()")
            assert await tab.run("shown()") == pytest.approx(colour, abs=6)
        await tab.run("(async () => { const s = until('ended'); await video.play(); await s })()")
        assert await tab.run("video.error") is None
        assert await tab.run("video.webkitAudioDecodedByteCount") > 0
