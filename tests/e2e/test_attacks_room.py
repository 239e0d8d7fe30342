"""People in the room who send what no encoder would: the recording of the others goes on."""

from pathlib import Path

import psutil
import pytest

from testkit.bystander import LEVEL, ROOM, TONES_HZ, check_sound, composite_beside
from testkit.hostile import OPUS_SILENCE, Hostile
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import probe
from testkit.raw_connection import RawCodec
from testkit.service import Service, location

pytestmark = pytest.mark.quiet

MIB = 2**20
CAMERAS: list[RawCodec] = ["vp8", "vp8", "vp8", "h264", "vp8"]
"""Of the attacker. Each has its tile from the start, so that those of the others stay where they are."""
MICROPHONES: list[RawCodec] = ["opus", "opus", "pcmu", "opus"]
MOST_MIB = 250
"""By which a handler may grow, whatever it is sent."""


async def test_whatever_a_participant_sends(tmp_path: Path) -> None:
    tracks = [*CAMERAS, *MICROPHONES]
    sizes, costly, bombs, endless, times, flood, jumps, noise, muted = range(len(tracks))
    async with LivekitServer() as livekit, Service(tmp_path, livekit) as service:
        mallory = Hostile(livekit, ROOM, "mallory", tracks)
        async with composite_beside(service, livekit, mallory, len(CAMERAS)) as egress_id:
            handler = psutil.Process(service.pid_of(egress_id))
            await mallory.attack(3, *(mallory.calm(index) for index in range(len(tracks))))
            before = handler.memory_info().rss
            await mallory.attack(
                15,
                mallory.odd_sizes(sizes),
                mallory.costly(costly, 5120, 3200, 40),
                mallory.bombs(bombs),
                mallory.endless_picture(endless),
                mallory.wild_times(times),
                mallory.flood(flood, OPUS_SILENCE, 1000),
                mallory.wild_times(jumps),
                mallory.flood(noise, bytes(1000), 200),
                mallory.mutes(muted),
                mallory.renames(),
                mallory.publications("opus", 100),
            )
            grown = handler.memory_info().rss - before
        assert min(mallory.done.values()) > 10, mallory.done
        assert grown < MOST_MIB * MIB
        assert "Traceback" not in service.log
        left_out = [line for line in service.log.splitlines() if "track left out" in line]
        for track in (bombs, flood, noise):
            assert any(mallory.sids[track] in line for line in left_out), left_out


async def test_a_recording_that_is_short_of_memory(tmp_path: Path) -> None:
    """Far below what it takes: pictures go, and it neither ends nor loses sound."""
    config = {"room_max_memory": 0.03}
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit, config) as service,
        Publisher(livekit, ROOM, "ann", VideoSpec(), AudioSpec(TONES_HZ[0], level=LEVEL, beep_level=LEVEL)),
        Publisher(livekit, ROOM, "ben", VideoSpec(), AudioSpec(TONES_HZ[1], level=LEVEL, beep_level=LEVEL)),
    ):
        request = {"room_name": ROOM, "file_outputs": [{"filepath": "short.mp4"}]}
        info = await service.record("StartRoomCompositeEgress", 6, **request)
        assert info["status"] == "EGRESS_COMPLETE", info["error"]
        assert "the recording ran short of memory" in info["details"]
        assert "memory is short" in service.log
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous
    check_sound(location(info))
