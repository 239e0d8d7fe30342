"""People in the room who send what no encoder would: the recording of the others goes on."""

from functools import partial
from pathlib import Path

import psutil
import pytest

from testkit.bystander import LEVEL, ROOM, TONES_HZ, check_sound, composite_beside
from testkit.health_watch import idle_ms, keeps_nobody_waiting
from testkit.hostile_process import Attack, HostileProcess
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import probe
from testkit.raw_connection import RawCodec
from testkit.service import Service, location
from testkit.strangers import HOSTILE, Strangers

pytestmark = pytest.mark.quiet

MIB = 2**20
CAMERAS: list[RawCodec] = ["vp8", "vp8", "vp8", "h264", "vp8"]
"""Of the attacker. Each has its tile from the start, so that those of the others stay where they are."""
MICROPHONES: list[RawCodec] = ["opus", "opus", "pcmu", "opus"]
MAX_MIB = 250
"""By which a handler may grow, whatever it is sent."""
KIND_S, TOGETHER_S = 2.5, 5.0
SIDECARS = "sidecars=events,speakers,chat,transcript,data"


async def test_whatever_a_participant_sends(tmp_path: Path) -> None:
    """One budget after the other, one flood after the other, and then several at once: the bystanders lose no
    picture and no sound to any of them. All that happens is kept beside the recording. In the end comes all
    of it as fast as it can be made, which is more than a machine of two cores has."""
    tracks = [*CAMERAS, *MICROPHONES]
    sizes, costly, bombs, endless, times, flood, jumps, noise, muted = range(len(tracks))
    kinds: dict[str, list[Attack]] = {
        "pixels": [("odd_sizes", sizes), ("bombs", bombs)],
        "decode time": [("costly", costly, 5120, 3200, 40)],
        "packets a second": [("flood", flood, 1000), ("flood", noise, 200, 1000)],
        "queued media": [("endless_picture", endless), ("wild_times", times), ("wild_times", jumps)],
        "text": [("mutes", muted, 10), ("renames", 25), ("publications", "opus", 100)],
    }
    floods: dict[str, list[Attack]] = {
        "people and tracks": [("flapping",), ("crowd", 50), ("churn", "opus")],
        # Each costs the attacker and the bystanders' SDK most of a core: together, or faster, they would
        # leave none to record with.
        "changes": [("renames", 30), ("mutes", muted, 30)],
        "data": [("data", 300)],
        "texts": [("texts", 100)],
    }
    of_the_server: list[Attack] = [("flapping",), ("churn", "opus"), ("data", 200), ("renames", 50)]
    # Who comes and goes as fast as they can keeps the server busy, and takes the recorder's time with it.
    several: list[Attack] = [("odd_sizes", sizes), ("bombs", bombs), ("flood", flood, 300), ("flapping", 10)]
    several += [("renames", 8), ("mutes", muted, 8), ("texts", 15), ("wild_times", jumps)]
    async with LivekitServer() as livekit, Service(tmp_path, livekit) as service:
        mallory = HostileProcess(livekit, ROOM, "mallory", tracks)
        async with composite_beside(service, livekit, mallory, len(CAMERAS), SIDECARS) as bystander:
            handler = psutil.Process(service.pid_of(bystander.egress_id))
            calm = [("calm", index) for index in range(len(tracks))]
            await mallory.attack(3, *calm)
            before = handler.memory_info().rss
            usual_ms = await idle_ms(service.health_port)

            async def alone(kind: str, attacks: list[Attack]) -> None:
                with bystander.loses_nothing(kind):
                    await mallory.attack(KIND_S, *attacks)

            for kind, attacks in {**kinds, **floods, "several": several}.items():
                await keeps_nobody_waiting(service.health_port, usual_ms, partial(alone, kind, attacks))
            async with Strangers(service.port) as strangers:
                await strangers.connect(2000)

                async def connections() -> None:
                    with bystander.loses_nothing("connections"):
                        await strangers.connect(200, HOSTILE)
                        await mallory.attack(KIND_S, *kinds["packets a second"])
                        assert (await service.call("ListEgress"))["items"]

                await keeps_nobody_waiting(service.port, usual_ms, connections)
            assert psutil.Process(service.pid).memory_info().rss < 400 * MIB
            everything = [each for attacks in kinds.values() for each in attacks]
            await mallory.attack(TOGETHER_S, *everything, *of_the_server)
            grown = handler.memory_info().rss - before
            await mallory.attack(KIND_S, *calm)
        carried_out = [*everything, *(each for attacks in floods.values() for each in attacks)]
        assert min(mallory.done[str(attack[0])] for attack in carried_out) > 5, mallory.done
        assert grown < MAX_MIB * MIB
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
