"""A recorder behind a narrow path is sent smaller layers, and the full ones again on a wide path."""

import asyncio
import time
from pathlib import Path

import av
import pytest

from openegress.core.units import S
from testkit.livekit_server import LivekitServer
from testkit.matroska_reader import ReadTrack, read
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.service import Service, location
from testkit.udp_relay import CLEAR, RELAY_ADDRESS, Impairment, Leg, UdpRelay

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

CAMERA = VideoSpec("vp8", 960, 540, 10, kbps=900, simulcast=True, busy=True)
"""Its layers have 160, 450 and 900 kbit/s."""
NARROW = Impairment(kbps=500)
WIDE_S = 4.0
"""Until both cameras are recorded as they are sent."""
NARROW_S = 25.0
SETTLED_S = 15.0
"""The estimate has been found, and the server has changed to layers that pass."""
EDGE_S = 2.5
"""Pictures of the smallest temporal layer are far apart."""
TOLD = "the path from the server is too narrow"


def pictures(track: ReadTrack) -> tuple[list[tuple[float, int]], list[float]]:
    """When each picture is shown, in s of the recording, and how wide it is; and when one that cannot be
    decoded is."""
    shown, broken = [], []
    decoder = av.CodecContext.create("vp8", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for packet in track.packets:
        try:
            shown += [(packet.at_s, each.width) for each in decoder.decode(av.Packet(packet.data))]
        except av.error.InvalidDataError:
            broken.append(packet.at_s)
    return shown, broken


async def test_cameras_of_several_layers_over_a_narrow_path(tmp_path: Path) -> None:
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, "narrow", "ann", CAMERA, AudioSpec()),
        Publisher(livekit, "narrow", "bob", CAMERA, AudioSpec()),
    ):
        relay.joining = Leg.RECORDER
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name="narrow",
            layout="tracks",
            file_outputs=[{"filepath": "narrow.mkv"}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(WIDE_S)
        assert TOLD not in service.log
        relay.impair(Leg.RECORDER, NARROW)
        narrow_s = time.time()
        await service.logged(TOLD)
        await asyncio.sleep(narrow_s + NARROW_S - time.time())
        ended_s = time.time()
        relay.impair(Leg.RECORDER, CLEAR)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    path, zero_s = location(info), int(info["file_results"][0]["started_at"]) / S
    cameras = [each for each in read(path) if "camera" in each.title]
    assert len(cameras) == 2
    for camera in cameras:
        shown, broken = pictures(camera)
        settled = [width for at_s, width in shown if zero_s + at_s > narrow_s + SETTLED_S]
        assert settled and max(settled) < CAMERA.width, (camera.title, shown)
        assert zero_s + shown[-1][0] > ended_s - EDGE_S, (camera.title, ended_s - zero_s, shown[-5:])
        assert not broken, (camera.title, broken, narrow_s - zero_s, shown)
