"""WebM of our own clusters: read by FFmpeg, whole and torn."""

from pathlib import Path

import av
import pytest

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.cluster_index import WebmError, make_seekable
from openegress.media.clusters import ClusterWriter
from openegress.media.passthrough import audio_format, video_format
from openegress.output.spool_file import SpoolFile
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

OPUS_SILENCE = b"\xf8\xff\xfe"
SOUND = audio_format(AudioCodec.OPUS)


def written(path: Path, codec: VideoCodec, seconds: int, *, gap_s: int = 0) -> list[Packet]:
    """With a gap of both tracks in the middle."""
    encoder, picture = (
        LiveEncoder(codec.value, 320, 192, 30, 400),
        Picture(PictureSpec(320, 192, 30, COLOURS[0])),
    )
    units = [encoder.encode(picture.draw(n), n, force_key=n % 30 == 0) for n in range(30 * seconds)]
    form = video_format(codec, units[0].data, 320, 192)
    half = seconds * S // 2
    packets = [
        Packet(MediaKind.VIDEO, u.data, n * 3000, n * 3000, 0, VIDEO_TIME_BASE, u.is_key)
        for n, u in enumerate(units)
    ]
    packets += [
        Packet(MediaKind.AUDIO, OPUS_SILENCE, at, at, 960, SOUND.time_base, True)
        for at in range(0, seconds * 48_000, 960)
    ]
    packets.sort(key=lambda packet: packet.pts_ns)
    moved = [
        Packet(p.kind, p.data, p.pts + by, p.dts + by, p.duration, p.time_base, p.is_key)
        for p in packets
        for by in (gap_s * p.time_base.denominator if p.pts_ns >= half else 0,)
    ]
    with path.open("wb", buffering=0) as file:
        writer = ClusterWriter(file.write, [form, SOUND])
        writer.open()
        for packet in moved:
            writer.write(packet)
        writer.close()
    return moved


def times_s(path: Path, kind: str) -> list[float]:
    with av.open(str(path)) as container:
        (stream,) = (each for each in container.streams if each.type == kind)
        return [float(p.pts * p.time_base) for p in container.demux(stream) if p.size and p.pts is not None]


@pytest.mark.parametrize("codec", [VideoCodec.VP8, VideoCodec.VP9, VideoCodec.AV1])
@pytest.mark.parametrize("gap_s", [0, 100, 7 * 3600])
def test_every_packet_at_its_time(tmp_path: Path, codec: VideoCodec, gap_s: int) -> None:
    path = tmp_path / "a.webm"
    packets = written(path, codec, 4, gap_s=gap_s)
    assert make_seekable(path)
    for kind in (MediaKind.VIDEO, MediaKind.AUDIO):
        given = [packet.pts_ns / S for packet in packets if packet.kind is kind]
        # Opus says in its header how much of its beginning is left out: half a packet and less.
        assert times_s(path, kind.value) == pytest.approx(given, abs=0.008)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx((gap_s + 4) * 1_000_000, abs=40_000)
        container.seek((gap_s + 3) * 1_000_000, any_frame=False)
        first = next(p for p in container.demux(video=0) if p.size)
        assert first.is_keyframe and first.pts is not None and first.time_base is not None
        assert float(first.pts * first.time_base) == pytest.approx(gap_s + 3, abs=0.01)
    made = path.read_bytes()
    assert not make_seekable(path), "it has all of it"
    assert path.read_bytes() == made


@pytest.mark.parametrize("tail", [b"", bytes(500), b"\xff" * 500, b"\x1f\x43\xb6\x75\x01"])
def test_what_is_torn_is_taken_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a.webm"
    written(path, VideoCodec.VP8, 3)
    whole = path.read_bytes()
    last = whole.rindex(b"\x1f\x43\xb6\x75")
    for cut in range(last, len(whole) - len(tail), 211):
        path.write_bytes(whole[:cut] + tail)
        assert make_seekable(path)
        assert len(times_s(path, "video")) == 75, cut


@pytest.mark.parametrize("data", [b"", b"\x1a\x45\xdf\xa3\x80", bytes(100), b"\xff" * 100])
def test_what_is_no_webm_is_refused_and_left(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    with pytest.raises(WebmError):
        make_seekable(path)
    assert path.read_bytes() == data


def test_a_header_alone_holds_no_media(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    with path.open("wb", buffering=0) as file:
        ClusterWriter(file.write, [SOUND]).open()
    with pytest.raises(WebmError, match="no media"):
        make_seekable(path)


Size = tuple[int, int]


@pytest.mark.parametrize("sound_first", [False, True])
@pytest.mark.parametrize(
    ("announced", "shown", "header"),
    [
        ((1280, 720), [(1280, 720)], (1280, 720)),
        ((1280, 720), [(640, 360)], (640, 360)),  # never climbed
        ((1280, 720), [(320, 180), (640, 360), (1280, 720), (320, 180)], (1280, 720)),
        ((1280, 720), [(1280, 720), (720, 1280)], (1280, 720)),  # turned
        ((160, 90), [(1920, 1080)], (1920, 1080)),
        ((1280, 720), [(160, 90)], (160, 90)),
        ((640, 360), [(0, 0)], (640, 360)),  # nobody told
    ],
)
def test_a_header_has_the_size_of_the_layer_that_is_recorded(
    tmp_path: Path, announced: Size, shown: list[Size], header: Size, sound_first: bool
) -> None:
    path = tmp_path / "a.webm"
    file = SpoolFile(path)
    formats = [video_format(VideoCodec.VP9, b"", *announced), SOUND]
    writer = ClusterWriter(file.write, formats[::-1] if sound_first else formats, file.rewrite)
    writer.open()
    for number, size in enumerate(shown):
        at = number * 90_000
        writer.write(Packet(MediaKind.VIDEO, b"key", at, at, 0, VIDEO_TIME_BASE, True, picture_size=size))
        writer.write(Packet(MediaKind.VIDEO, b"other", at + 3000, at + 3000, 0, VIDEO_TIME_BASE, False))
        sound = number * 48_000
        writer.write(Packet(MediaKind.AUDIO, OPUS_SILENCE, sound, sound, 960, SOUND.time_base, True))
    writer.close()
    file.seal()
    file.release()
    assert make_seekable(path)
    with av.open(str(path), options={"codec_whitelist": "none"}) as container:
        parameters = container.streams.video[0]
        assert (parameters.width, parameters.height) == header
        assert sum(bool(packet.size) for packet in container.demux()) == 3 * len(shown)
