"""People who are left out of a recording: neither seen nor heard, and nothing of them is received."""

import asyncio
import time
from pathlib import Path

import pytest
from livekit.api import UpdateParticipantRequest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS, Rgb
from testkit.probe import Rect, colour_of, frames, has_tone, tones
from testkit.service import Refused, Service, location
from testkit.udp_relay import RELAY_ADDRESS, Leg, UdpRelay

pytestmark = pytest.mark.quiet

ROOM = "consent"
SECOND_OF_TWO = Rect(926, 272, 62, 88)
"""A part of that tile of a grid of 1280x720 which shows a participant's colour."""
BOTH_S, ALONE_S = 2.0, 2.5
EDGE_S = 0.7
"""Around a change, which the server tells, and which is drawn and mixed then."""
ANN, BOB = COLOURS[:2]
ANN_HZ, BOB_HZ, AGENT_HZ = 440, 880, 1320
STREAM_PACKETS = 20
"""A server probes with a few of padding; a track sends 50 a second."""


def camera(colour: Rgb) -> VideoSpec:
    return VideoSpec(width=320, height=360, kbps=400, colour=colour, encoded=True)


def shows_bob(path: Path, at_s: float) -> bool:
    """The first picture from then on does so in the second tile."""
    found = next(colour_of(frame, SECOND_OF_TWO) for time_s, frame in frames(path) if time_s >= at_s)
    return all(abs(seen - wanted) <= 25 for seen, wanted in zip(found, BOB, strict=True))


async def test_who_opts_out_is_gone_until_they_opt_in(tmp_path: Path) -> None:
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, ROOM, "ann", camera(ANN), AudioSpec(tone_hz=ANN_HZ)),
        Publisher(livekit, ROOM, "bob", camera(BOB), AudioSpec(tone_hz=BOB_HZ)) as bob,
        Publisher(livekit, ROOM, "helper", None, AudioSpec(tone_hz=AGENT_HZ), kind="agent"),
    ):

        async def says(exclude: str, told: str) -> float:
            """Unix s of when the recorder knew."""
            await livekit.room_service().update_participant(
                UpdateParticipantRequest(room=ROOM, identity="bob", attributes={"egress.exclude": exclude})
            )
            await service.logged(told)
            return time.time()

        with pytest.raises(Refused, match="leave_out of a page"):
            page = {"layout": "own?leave_out=kind:agent", "custom_base_url": "http://127.0.0.1:9/"}
            files = [{"filepath": "no.mp4"}]
            await service.call("StartRoomCompositeEgress", room_name=ROOM, **page, file_outputs=files)

        relay.joining = Leg.RECORDER
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name=ROOM,
            layout="grid?leave_out=kind:agent",
            file_outputs=[{"filepath": "consent.mp4"}],
        )
        await service.active(started["egress_id"])
        relay.joining = Leg.PUBLISHER
        await asyncio.sleep(BOTH_S)
        out_s = await says("true", "bob has opted out of being recorded")
        await asyncio.sleep(EDGE_S)
        relay.received.clear()
        await asyncio.sleep(ALONE_S)
        received = [ssrc for ssrc, packets in relay.received.items() if packets > STREAM_PACKETS]
        track = {"track_id": bob.sid("camera"), "file": {"filepath": "track.webm"}}
        named = await service.call("StartTrackEgress", room_name=ROOM, **track)
        refused = await service.wait(named["egress_id"])
        in_s = await says("", "bob may be recorded")
        await asyncio.sleep(BOTH_S)
        info = await service.finish(started["egress_id"])
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert refused["error"].endswith("of bob is left out: its participant has opted out of being recorded")
    path, began_s = location(info), int(info["file_results"][0]["started_at"]) / 1e9

    def heard(start_s: float, end_s: float) -> list[int]:
        found = tones(path, start_s=start_s - began_s, end_s=end_s - began_s)
        return [hz for hz in (ANN_HZ, BOB_HZ, AGENT_HZ) if has_tone(found, hz)]

    assert heard(out_s - 1.5, out_s - 0.2) == [ANN_HZ, BOB_HZ]
    assert heard(out_s + EDGE_S, in_s - 0.1) == [ANN_HZ]
    assert heard(in_s + EDGE_S, in_s + BOTH_S - 0.2) == [ANN_HZ, BOB_HZ]
    assert len(received) == 2, "the picture and the sound of one"
    assert shows_bob(path, out_s - 0.3 - began_s)
    assert not shows_bob(path, out_s + EDGE_S - began_s)
    assert not shows_bob(path, in_s - 0.1 - began_s)
    assert shows_bob(path, in_s + BOTH_S - 0.3 - began_s)
