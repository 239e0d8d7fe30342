"""Clips as they are cut: real encoders, every container, and each picture read back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.span import RequestedSpan, Span
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.clip.cut import SEEK_BEFORE_NS, CutPictures, cut
from openegress.media.clip.fragment_window import FragmentWindow
from openegress.media.clip.source import ClipPart, ClipSource, end_ns
from openegress.media.clip.stitched import LocalBytes, Stitched
from openegress.media.clusters import ClusterWriter
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.muxer import Muxer
from openegress.media.passthrough import video_format
from openegress.output.file.finalise import finalise
from openegress.output.spool_file import SpoolFile
from testkit.encoded import Encoded, Spec
from testkit.live_encoder import LiveEncoder, ReorderingEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec
from testkit.player_tab import open_player
from testkit.probe import av_offset, beep_onsets, counters, probe, sound

FPS = 30
SPEC = PictureSpec(320, 192, FPS, COLOURS[0])
GROUP = 60
"""Pictures from one key frame to the next."""


def clip_of(part: ClipPart, span: Span, container: Container, path: Path) -> CutPictures:
    sink = SpoolFile(path)
    pictures = cut((part,), span, sink, lambda: False)
    sink.release()
    assert finalise(path, container) == ""
    return pictures


def opened(path: Path) -> LocalBytes:
    return LocalBytes(os.open(path, os.O_RDONLY))


def growing(path: Path, begin_s: float, end_s: float) -> tuple[ClipPart, Span]:
    window = FragmentWindow(opened(path))
    span = RequestedSpan(None, round(begin_s * S), round(end_s * S)).of(window.end_ns)
    file = window.open(max(0, span.begin_ns - SEEK_BEFORE_NS), span.end_ns)
    return ClipPart(Container.MP4, file), span


def check(path: Path, begin_s: float, end_s: float, made: CutPictures) -> None:
    first, last = round(begin_s * FPS), round(end_s * FPS)
    found, facts = counters(path), probe(path)
    assert [n for _, n in found.read] == list(range(first, last))
    assert found.read[0][0] == 0
    assert facts.video is not None and facts.video.rising
    assert facts.video.duration_s == pytest.approx(end_s - begin_s, abs=0.002)
    # Only the pictures up to the next key frame are encoded anew.
    assert made.encoded <= min(-first % GROUP, last - first)
    assert made.copied == last - first - made.encoded


@pytest.fixture(scope="module")
def fragments(tmp_path_factory: pytest.TempPathFactory) -> dict[AudioCodec, Path]:
    """Files that grow."""
    found = {}
    for codec, rate in ((AudioCodec.AAC, 44_100), (AudioCodec.OPUS, 48_000)):
        found[codec] = path = tmp_path_factory.mktemp("fragments") / "recording.mp4"
        encoded = Encoded(Spec(seconds=12, audio=codec, sample_rate=rate))
        file = SpoolFile(path)
        writer = FragmentWriter(file.write, encoded.formats, header=file_header(encoded.formats))
        writer.open()
        for packet in encoded.packets():
            writer.write(packet)
        writer.close()
        file.release()
    return found


@pytest.mark.parametrize(("begin_s", "end_s"), [(0, 3), (3.1, 7.7), (4, 8), (5.5, 5.9), (9, 12)])
@pytest.mark.parametrize("codec", [AudioCodec.AAC, AudioCodec.OPUS])
def test_of_a_file_that_grows(
    tmp_path: Path, fragments: dict[AudioCodec, Path], codec: AudioCodec, begin_s: float, end_s: float
) -> None:
    path = tmp_path / "clip.mp4"
    # A fragment that is being written.
    (tmp_path / "recording.mp4").write_bytes(fragments[codec].read_bytes() + b"\0\0\x10\0moof" + bytes(40))
    check(
        path,
        begin_s,
        end_s,
        clip_of(*growing(tmp_path / "recording.mp4", begin_s, end_s), Container.MP4, path),
    )
    facts = probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    assert facts.audio.start_s == 0
    if end_s - begin_s > 1:
        offset = av_offset(path)
        assert max(abs(offset.min_ms), abs(offset.max_ms)) < 3


def test_of_a_file_that_is_finished(tmp_path: Path, fragments: dict[AudioCodec, Path]) -> None:
    whole, path = tmp_path / "whole.mp4", tmp_path / "clip.mp4"
    whole.write_bytes(fragments[AudioCodec.AAC].read_bytes())
    assert finalise(whole, Container.MP4) == ""
    part = ClipPart(Container.MP4, Stitched.whole(opened(whole)), is_indexed=True)
    check(path, 3.1, 7.7, clip_of(part, Span(3_100_000_000, 7_700_000_000), Container.MP4, path))
    offset = av_offset(path)
    assert max(abs(offset.min_ms), abs(offset.max_ms)) < 3


@dataclass(frozen=True, slots=True)
class Live:
    form: StreamFormat
    packets: Sequence[Packet]

    @classmethod
    def of(cls, codec: str) -> "Live":
        picture, encoder = (
            Picture(PictureSpec(320, 192, FPS, COLOURS[0])),
            LiveEncoder(codec, 320, 192, FPS, 400),
        )
        packets = []
        for n in range(8 * FPS):
            unit = encoder.encode(picture.draw(n), n, force_key=n % GROUP == 0)
            packets.append(
                Packet(MediaKind.VIDEO, unit.data, n * 3000, n * 3000, 0, VIDEO_TIME_BASE, unit.is_key)
            )
        return cls(video_format(VideoCodec(codec), packets[0].data, 320, 192), packets)

    @classmethod
    def reordered(cls) -> "Live":
        """With three B frames. Pictures are late by two, so that none is due before it is decoded."""
        picture, encoder = (
            Picture(PictureSpec(320, 192, FPS, COLOURS[0])),
            ReorderingEncoder(320, 192, FPS, 400, 3),
        )
        units = [
            unit
            for n in range(8 * FPS)
            for unit in encoder.encode(picture.draw(n), n, force_key=n % GROUP == 0)
        ]
        packets = [
            Packet(MediaKind.VIDEO, u.data, (u.pts + 2) * 3000, n * 3000, 0, VIDEO_TIME_BASE, u.is_key)
            for n, u in enumerate(units)
        ]
        return cls(video_format(VideoCodec.H264, packets[0].data, 320, 192), packets)

    def write(self, path: Path) -> None:
        file = SpoolFile(path)
        writer: ClusterWriter | FragmentWriter
        if path.suffix == ".webm":
            writer = ClusterWriter(file.write, [self.form], file.rewrite)
        else:
            writer = FragmentWriter(file.write, [self.form], header=file_header([self.form]))
        writer.open()
        for packet in self.packets:
            writer.write(packet)
        writer.close()
        file.release()


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_of_tracks_as_they_come(tmp_path: Path, codec: str) -> None:
    """The edge has parameters of its own; the rest keeps the publisher's."""
    Live.of(codec).write(tmp_path / "recording.mp4")
    path = tmp_path / "clip.mp4"
    check(path, 2.5, 6.2, clip_of(*growing(tmp_path / "recording.mp4", 2.5, 6.2), Container.MP4, path))


@pytest.mark.parametrize("codec", ["vp8", "vp9"])
def test_of_webm(tmp_path: Path, codec: str) -> None:
    Live.of(codec).write(tmp_path / "recording.webm")
    path, file = tmp_path / "clip.webm", opened(tmp_path / "recording.webm")
    assert end_ns(ClipSource(ClipPart(Container.WEBM, Stitched.whole(file)))) == pytest.approx(
        8 * S, abs=2_000_000
    )
    part = ClipPart(Container.WEBM, Stitched.whole(file))
    check(path, 2.5, 6.2, clip_of(part, Span(2_500_000_000, 6_200_000_000), Container.WEBM, path))


@pytest.mark.parametrize(("begin_s", "end_s"), [(2.5, 6.2), (4.0, 6.1), (2.1, 3.3)])
def test_of_pictures_that_are_reordered(tmp_path: Path, begin_s: float, end_s: float) -> None:
    """What the end leaves out may be what others are made of."""
    Live.reordered().write(tmp_path / "recording.mp4")
    path, late_s = tmp_path / "clip.mp4", 2 / FPS
    made = clip_of(
        *growing(tmp_path / "recording.mp4", begin_s + late_s, end_s + late_s), Container.MP4, path
    )
    assert counters(path).values == list(range(round(begin_s * FPS), round(end_s * FPS)))
    assert made.copied + made.encoded == round((end_s - begin_s) * FPS)
    if begin_s == 4.0:
        assert made.encoded <= 3


@pytest.mark.parametrize(
    ("container", "codec", "off_s"),
    [(Container.OGG, AudioCodec.OPUS, 0.021), (Container.MP3, AudioCodec.MP3, 0.025)],
)
def test_of_sound(tmp_path: Path, container: Container, codec: AudioCodec, off_s: float) -> None:
    """Cut on packets."""
    encoded = Encoded(Spec(seconds=12, video=False, audio=codec))
    recording, path = tmp_path / f"recording.{container.value}", tmp_path / f"clip.{container.value}"
    file = SpoolFile(recording)
    muxer = Muxer(file, container, encoded.formats, {})
    muxer.open()
    for packet in encoded.packets():
        muxer.write(packet)
    muxer.close()
    file.release()
    part = ClipPart(container, Stitched.whole(opened(recording)))
    clip_of(part, Span(3_700_000_000, 7_250_000_000), container, path)
    onsets = beep_onsets(sound(path))
    assert onsets == pytest.approx([0.3, 1.3, 2.3, 3.3], abs=off_s)
    facts = probe(path)
    assert facts.audio is not None and facts.audio.contiguous


PAGE = """<!doctype html><video muted src="clip.mp4"></video><script>
const video = document.querySelector("video"), shown = [];
const seen = (_, frame) => { shown.push(frame.mediaTime); video.requestVideoFrameCallback(seen); };
video.requestVideoFrameCallback(seen);
const loaded = new Promise((resolve) => {
  video.onloadeddata = () => resolve("loaded");
  video.onerror = () => resolve(video.error.message);
});
const counters = async (times) => {
  const found = [], canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  for (const at of times) {
    const over = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
    video.currentTime = at;
    await over;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    const side = canvas.width / 40, bits = [];
    for (let i = 2; i < 22; i++) {
      const x = Math.round(side * (1.5 + i)), y = Math.round(side * 1.5);
      bits.push(context.getImageData(x, y, 1, 1).data[1] > 128);
    }
    found.push(bits.reduce((n, bit) => 2 * n + bit, 0));
  }
  return found;
};
</script>"""


async def test_a_clip_in_chromium(tmp_path: Path) -> None:
    """The first picture, those on both sides of where encoded ones end, and the last."""
    Live.of("h264").write(tmp_path / "recording.mp4")
    clip_of(*growing(tmp_path / "recording.mp4", 2.5, 6.2), Container.MP4, tmp_path / "clip.mp4")
    async with open_player(tmp_path, PAGE) as tab:
        assert await tab.run("video.duration") == pytest.approx(3.7, abs=0.01)
        places = [0, 44, 45, 46, 110]
        times = ",".join(str((n + 0.5) / FPS) for n in places)
        assert await tab.run(f"counters([{times}])") == [75 + n for n in places]
        assert await tab.run("video.error") is None
