"""HEVC, AV1 and VP9 as our encoders give them, in each container: every picture once, in its slot."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from openegress.core.codecs import AudioCodec, Container, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.span import Span
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.clip.cut import cut
from openegress.media.clip.source import ClipPart
from openegress.media.clip.stitched import LocalBytes, Stitched
from openegress.media.clusters import ClusterWriter
from openegress.media.encoder import VideoEncoder
from openegress.media.fragment_end import end_of
from openegress.media.fragments import FragmentWriter, file_header
from openegress.output.file.finalise import finalise
from openegress.output.spool_file import SpoolFile
from testkit.encoded import Encoded, Spec
from testkit.pattern import COLOURS, Picture, PictureSpec
from testkit.player_tab import open_player
from testkit.probe import av_offset, counters, probe
from tests.integration.test_media_clip import PAGE

FPS = 30
PLACES = [
    (VideoCodec.H265, Container.MP4, "hevc", b"hvc1"),
    (VideoCodec.AV1, Container.MP4, "libdav1d", b"av01"),
    (VideoCodec.VP9, Container.MP4, "vp9", b"vp09"),
    (VideoCodec.VP9, Container.WEBM, "vp9", b"V_VP9"),
    (VideoCodec.AV1, Container.WEBM, "libdav1d", b"V_AV1"),
]


@dataclass(frozen=True, slots=True)
class Media:
    formats: Sequence[StreamFormat]
    packets: Sequence[Packet]

    @classmethod
    def of(cls, codec: VideoCodec, container: Container, seconds: float) -> "Media":
        audio = AudioCodec.AAC if container is Container.MP4 else AudioCodec.OPUS
        encoded = Encoded(Spec(seconds=seconds, codec=codec, audio=audio))
        return cls(encoded.formats, list(encoded.packets()))


def write(path: Path, container: Container, media: Media, *, goes_on: bool = False) -> None:
    behind = end_of(path) if goes_on else None
    file = SpoolFile(path, keep_bytes=behind.size_bytes if behind is not None else 0)
    if container is Container.MP4:
        header = file_header(media.formats)
        writer: FragmentWriter | ClusterWriter = FragmentWriter(
            file.write, media.formats, header=header, behind=behind
        )
    else:
        writer = ClusterWriter(file.write, media.formats, file.rewrite)
    writer.open()
    for packet in media.packets:
        writer.write(packet)
    writer.close()
    file.release()


@pytest.mark.parametrize(("codec", "container", "name", "mark"), PLACES)
def test_a_file_plays_while_it_grows_and_when_it_is_whole(
    tmp_path: Path, codec: VideoCodec, container: Container, name: str, mark: bytes
) -> None:
    path = tmp_path / f"a.{container.value}"
    write(path, container, Media.of(codec, container, 5.0))
    grown, whole = tmp_path / f"grown.{container.value}", path.read_bytes()
    grown.write_bytes(whole[: len(whole) * 3 // 4])
    found = counters(grown)
    assert found.values == list(range(len(found.values))) and len(found.values) > 60
    assert finalise(path, container) == ""
    assert mark in path.read_bytes()
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.codec == name and facts.video.rising and facts.audio.contiguous
    assert facts.video.key_frames_s == pytest.approx([0.0, 2.0, 4.0], abs=0.002)
    assert counters(path).values == list(range(150)) and not counters(path).unreadable
    assert abs(av_offset(path).median_ms) < 12


@pytest.mark.parametrize("codec", [VideoCodec.H265, VideoCodec.AV1, VideoCodec.VP9])
def test_a_key_frame_is_made_where_it_is_asked_for(codec: VideoCodec) -> None:
    """At a cut: of a pause, or of a file in parts."""
    encoder = VideoEncoder(VideoEncoding(320, 192, FPS, 500, 4.0, codec), steady=False)
    picture, packets = Picture(PictureSpec(320, 192, FPS, COLOURS[0])), []
    for n in range(FPS):
        if n == 17:
            encoder.begin_anew()
        planes = np.frombuffer(picture.draw(n), np.uint8).reshape(192 * 3 // 2, 320)
        packets += encoder.encode(av.VideoFrame.from_ndarray(planes, "yuv420p"), n * S // FPS)
    packets += encoder.flush()
    assert [round(each.pts_ns * FPS / S) for each in packets if each.is_key] == [0, 17]
    assert [each.pts for each in packets] == [each.dts for each in packets] == [n * 3000 for n in range(FPS)]
    assert encoder.inside == 0


@pytest.mark.parametrize(("codec", "container", "name", "mark"), PLACES)
def test_a_clip_of_it(
    tmp_path: Path, codec: VideoCodec, container: Container, name: str, mark: bytes
) -> None:
    path, clip = tmp_path / f"a.{container.value}", tmp_path / f"clip.{container.value}"
    write(path, container, Media.of(codec, container, 5.0))
    assert finalise(path, container) == ""
    part = ClipPart(container, Stitched.whole(LocalBytes(os.open(path, os.O_RDONLY))), is_indexed=True)
    sink = SpoolFile(clip)
    made = cut([part], Span(S, 4 * S), sink, lambda: False)
    sink.release()
    assert finalise(clip, container) == ""
    assert counters(clip).values == list(range(30, 120)) and not counters(clip).unreadable
    assert made.copied == 60 and made.encoded == 30
    assert mark in clip.read_bytes() and probe(clip).video is not None


@pytest.mark.parametrize("codec", [VideoCodec.H265, VideoCodec.AV1, VideoCodec.VP9])
def test_another_process_goes_on_with_the_file(tmp_path: Path, codec: VideoCodec) -> None:
    path, media = tmp_path / "a.mp4", Media.of(codec, Container.MP4, 1.5)
    write(path, Container.MP4, media)
    write(path, Container.MP4, media, goes_on=True)
    assert finalise(path, Container.MP4) == ""
    assert counters(path).values == [*range(45), *range(45)]


@pytest.mark.parametrize(("codec", "container", "name", "mark"), PLACES[1:])
async def test_chromium_shows_it(
    tmp_path: Path, codec: VideoCodec, container: Container, name: str, mark: bytes
) -> None:
    """HEVC it plays only where the machine does."""
    path = tmp_path / f"a.{container.value}"
    write(path, container, Media.of(codec, container, 5.0))
    assert finalise(path, container) == ""
    async with open_player(tmp_path, PAGE.replace("clip.mp4", path.name)) as tab:
        assert await tab.run("video.duration") == pytest.approx(5.0, abs=0.05)
        places = [0, 59, 60, 61, 140]
        times = ",".join(str((n + 0.5) / FPS) for n in places)
        assert await tab.run(f"counters([{times}])") == places
