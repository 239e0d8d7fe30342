"""What is encoded is what was asked for: presets, and each field of EncodingOptions, in real files."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio

from testkit.page_server import PageServer
from testkit.probe import Facts, counters, has_tone, probe, tones
from testkit.service import Info, Refused, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 1.5
BUFFER_S = 2.0
"""Seconds of its rate that an encoder may spend at once: the rate holds over times longer than this."""
AUDIO_LEEWAY = 1.25


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with Service(tmp_path_factory.mktemp("encoding")) as running:
        yield running


async def record(
    service: Service, pages: PageServer, page: str, seconds: float = SECONDS, **request: Any
) -> Path:
    request = {"file_outputs": [{"filepath": "encoded"}]} | request
    info: Info = await service.record("StartWebEgress", seconds, url=pages.url(page), **request)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    path = location(info)
    return path.rename(path.with_stem(info["egress_id"]))


def check_bitrate(path: Path, kbps: int) -> float:
    """The video's mean, in kbit/s."""
    video = probe(path).video
    assert video is not None
    with av.open(str(path)) as container:
        bits = sum(packet.size * 8 for packet in container.demux(container.streams.video[0]))
    assert bits < kbps * 1000 * (video.duration_s + BUFFER_S)
    return bits / video.duration_s / 1000


PRESETS = [
    (0, (1280, 720), 30, 3000),
    (3, (1920, 1080), 60, 6000),
    (5, (720, 1280), 60, 4500),
]
"""The smallest, the largest and an upright one; tests/unit/test_request_validate.py has all."""


@pytest.mark.quiet
@pytest.mark.parametrize(("preset", "size", "fps", "kbps"), PRESETS)
async def test_presets(
    service: Service, pages: PageServer, preset: int, size: tuple[int, int], fps: int, kbps: int
) -> None:
    path = await record(service, pages, "pattern.html?tone=1&busy=1", preset=preset)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert (facts.video.codec, facts.video.profile, facts.video.sizes) == ("h264", "Main", (size,))
    check_rate(path, facts, fps, least=0.2)  # two cores do not do 1080p60
    check_bitrate(path, kbps)
    assert (facts.audio.codec, facts.audio.sample_rate, facts.audio.channels) == ("aac", 44_100, 2)
    read = counters(path)
    assert read.in_order and read.unreadable == 0


def check_rate(path: Path, facts: Facts, fps: int, least: float = 0.5) -> None:
    """Every picture is on the clock of this rate; an overloaded machine may leave some out."""
    assert facts.video is not None and facts.video.rising
    with av.open(str(path)) as container:
        times = sorted(
            float(packet.pts * packet.time_base)
            for packet in container.demux(container.streams.video[0])
            if packet.pts is not None and packet.time_base is not None
        )
    slots = [time * fps for time in times]
    assert all(abs(slot - round(slot)) < 0.05 for slot in slots)
    assert len({round(slot) for slot in slots}) == len(slots)
    assert len(slots) > least * (slots[-1] + 1)


VIDEO = [
    (
        {"width": 482, "height": 360, "video_codec": "H264_BASELINE", "depth": 8, "framerate": 15},
        {"sizes": ((482, 360),), "profile": "Constrained Baseline", "fps": pytest.approx(15, abs=0.5)},
    ),
    (
        {"width": 640, "video_codec": "H264_HIGH", "depth": 16, "framerate": 24},
        {"sizes": ((640, 720),), "profile": "High", "fps": pytest.approx(24, abs=0.8)},
    ),
    (
        {"width": 640, "height": 360, "video_codec": "H264_MAIN", "depth": 24, "framerate": 60},
        {"sizes": ((640, 360),), "profile": "Main", "fps": pytest.approx(60, abs=6)},
    ),
    ({"width": 16, "height": 16}, {"sizes": ((16, 16),)}),
    (
        {"width": 640, "height": 360, "video_codec": "VP8", "key_frame_interval": 0.5},
        {"codec": "vp8", "sizes": ((640, 360),), "key_frames_s": pytest.approx([0.0, 0.5, 1.0], abs=0.04)},
    ),
    (
        {"key_frame_interval": 0.5},
        {"sizes": ((1280, 720),), "key_frames_s": pytest.approx([0.0, 0.5, 1.0], abs=0.04)},
    ),
]


@pytest.mark.quiet
@pytest.mark.parametrize(("options", "wanted"), VIDEO, ids=[str(options) for options, _ in VIDEO])
async def test_video_options(
    service: Service, pages: PageServer, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    path = await record(service, pages, "pattern.html?sound=0", video_only=True, advanced=options)
    facts = probe(path)
    assert facts.video is not None and facts.audio is None
    assert path.suffix == (".webm" if options.get("video_codec") == "VP8" else ".mp4")
    found = {name: getattr(facts.video, name) for name in wanted}
    if "key_frames_s" in found:
        found["key_frames_s"] = facts.video.key_frames_s[:3]
    assert found == wanted
    check_rate(path, facts, options.get("framerate", 30))


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("codec", "found", "suffix"),
    [("hevc", "hevc", ".mp4"), ("av1", "libdav1d", ".mp4"), ("vp9", "vp9", ".webm")],
)
async def test_codecs_that_the_protocol_does_not_name(
    service: Service, pages: PageServer, codec: str, found: str, suffix: str
) -> None:
    size = {"width": 640, "height": 360}
    asked: dict[str, Any] = {"advanced": size, "openegress": {"video_codec": codec}}
    path = await record(service, pages, "pattern.html?tone=1", **asked)
    facts, read = probe(path), counters(path)
    assert path.suffix == suffix
    assert facts.video is not None and facts.audio is not None
    assert (facts.video.codec, facts.video.sizes) == (found, ((640, 360),))
    assert facts.audio.contiguous and has_tone(tones(path, start_s=0.5), 300)
    assert read.in_order and read.unreadable == 0
    check_rate(path, facts, 30)


@pytest.mark.quiet
async def test_a_speed_that_follows_the_machine(service: Service, pages: PageServer) -> None:
    asked: dict[str, Any] = {
        "advanced": {"width": 640, "height": 360},
        "openegress": {"encoder_speed": "auto"},
    }
    path = await record(service, pages, "pattern.html?tone=1", **asked)
    facts, read = probe(path), counters(path)
    assert facts.video is not None and facts.video.codec == "h264"
    assert read.in_order and read.unreadable == 0
    check_rate(path, facts, 30)


@pytest.mark.quiet
async def test_video_bitrate(service: Service, pages: PageServer) -> None:
    rates = []
    for kbps in (40, 1000):
        options = {"width": 640, "height": 360, "framerate": 15, "video_bitrate": kbps}
        path = await record(service, pages, "pattern.html?busy=1", 2.5, video_only=True, advanced=options)
        rates.append(check_bitrate(path, kbps))
    assert rates[1] > 1.5 * rates[0]


AUDIO = [
    ({"audio_codec": "AAC", "audio_frequency": 48_000, "audio_bitrate": 256}, "MP4", "aac", 48_000),
    ({"audio_codec": "OPUS"}, "MP4", "opus", 48_000),
    ({"audio_codec": "AC_MP3"}, "MP4", "mp3float", 44_100),
    ({"audio_codec": "OPUS", "audio_bitrate": 32}, "OGG", "opus", 48_000),
    ({"audio_codec": "AC_MP3", "audio_frequency": 32_000}, "MP3", "mp3float", 32_000),
    (
        {"audio_codec": "AAC", "audio_frequency": 16_000, "audio_bitrate": 32},
        "DEFAULT_FILETYPE",
        "aac",
        16_000,
    ),
]


@pytest.mark.parametrize(
    ("options", "file_type", "codec", "rate"), AUDIO, ids=[f"{options} {kind}" for options, kind, *_ in AUDIO]
)
async def test_audio_options(
    service: Service, pages: PageServer, options: dict[str, Any], file_type: str, codec: str, rate: int
) -> None:
    output: dict[str, Any] = {"file_outputs": [{"filepath": "encoded", "file_type": file_type}]}
    path = await record(service, pages, "pattern.html?tone=1", audio_only=True, advanced=options, **output)
    assert path.suffix == {"OGG": ".ogg", "MP3": ".mp3"}.get(file_type, ".mp4")
    facts = probe(path)
    assert facts.audio is not None and facts.video is None
    assert (facts.audio.codec, facts.audio.sample_rate, facts.audio.contiguous) == (codec, rate, True)
    assert has_tone(tones(path, start_s=0.5), 300)
    kbps = options.get("audio_bitrate", 128)
    assert path.stat().st_size * 8 / facts.audio.duration_s / 1000 < kbps * AUDIO_LEEWAY + 30


MISFITS = [
    ({"audio_codec": "AAC"}, "OGG", "format audio/ogg incompatible with codec audio/aac"),
    ({"audio_codec": "OPUS"}, "MP3", "format audio/mpeg incompatible with codec audio/opus"),
    ({"audio_codec": "AC_MP3"}, "OGG", "format audio/ogg incompatible with codec audio/mpeg"),
]


@pytest.mark.parametrize(("options", "file_type", "said"), MISFITS)
async def test_codecs_that_a_container_does_not_take(
    service: Service, pages: PageServer, options: dict[str, Any], file_type: str, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        await service.call(
            "StartWebEgress",
            url=pages.url("blank"),
            audio_only=True,
            advanced=options,
            file_outputs=[{"filepath": "encoded", "file_type": file_type}],
        )
    assert (caught.value.code, caught.value.message) == ("invalid_argument", said)
