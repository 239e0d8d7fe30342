"""Browsers publish, as nearly every user does; a file begins with the layer that is recorded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from testkit.browser_publisher import CAMERA, Codec, publishing
from testkit.livekit_server import LivekitServer
from testkit.mp4_reader import read
from testkit.page_server import PageServer
from testkit.probe import probe
from testkit.service import Service, location

pytestmark = pytest.mark.quiet


@dataclass(frozen=True)
class Rig:
    server: LivekitServer
    pages: PageServer
    service: Service


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with (
        LivekitServer() as server,
        PageServer() as pages,
        Service(tmp_path, server, {"deny_networks": []}) as service,
    ):
        yield Rig(server, pages, service)


def sizes_shown(path: Path, codec: Codec) -> list[tuple[int, int]]:
    """One after another. By libvpx where a picture has layers: it shows the top one, as browsers do; FFmpeg's
    own decoder gives each as a picture."""
    sizes: list[tuple[int, int]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if codec == "vp9" else stream.codec_context
        assert isinstance(decoder, VideoCodecContext)
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                if not sizes or sizes[-1] != (frame.width, frame.height):
                    sizes.append((frame.width, frame.height))
    return sizes


@pytest.mark.parametrize(
    ("codec", "extension"),
    [("h264", "mp4"), ("vp9", "webm"), ("vp8", "webm"), ("av1", "mp4"), ("av1", "webm")],
)
async def test_a_recording_begins_with_the_layer_that_is_recorded(
    rig: Rig, codec: Codec, extension: str
) -> None:
    async with publishing(rig.server, rig.pages, "room", "ada", codec) as ada:
        started = await rig.service.call(
            "StartTrackCompositeEgress",
            room_name="room",
            video_track_id=ada.camera,
            audio_track_id=ada.microphone,
            file_outputs=[{"filepath": f"out.{extension}"}],
        )
        await rig.service.active(started["egress_id"])
        await asyncio.sleep(6)  # of media
        info = await rig.service.finish(started["egress_id"])
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    path = location(info)
    facts = await asyncio.to_thread(probe, path)
    assert facts.video is not None and facts.audio is not None
    sizes = await asyncio.to_thread(sizes_shown, path, codec)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times_s = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
    steps_s = [after - before for before, after in pairwise(times_s)]
    assert min(steps_s) > 0
    assert min(steps_s[:5]) > 0.005, "no two pictures at a time where it begins"
    if extension == "mp4":
        (track,) = (each for each in read(path).tracks if each.entries[0].size is not None)
        assert [entry.size for entry in track.entries] == sizes
        assert track.size == sizes[-1]
    else:
        with av.open(str(path), options={"codec_whitelist": "none"}) as container:
            header = container.streams.video[0]
            assert (header.width, header.height) == max(sizes), "one size is all that a WebM can say"
    # A browser publishes an upper layer once somebody wants it, and climbs when bandwidth and machine let it,
    # which may be later than is waited for.
    assert sizes == sorted(sizes) and sizes[-1] <= CAMERA
