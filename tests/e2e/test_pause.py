"""A recording that is paused and resumed: what it leaves out, that it receives nothing, and what it tells."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import m3u8
import numpy as np
import pytest
from livekit.api import TwirpError, TwirpErrorCode
from livekit.protocol.room import UpdateParticipantRequest

from openegress.media.fragments import OFFSET_NS
from testkit import hls_rules
from testkit.livekit_server import LivekitServer
from testkit.matroska_reader import extract
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.probe import Counters, counters, probe, sound
from testkit.service import POLL_S, Info, Refused, Service, location
from testkit.stream_servers import RtmpServer
from testkit.udp_relay import RELAY_ADDRESS, Leg, UdpRelay

pytestmark = pytest.mark.asyncio(loop_scope="module")

FPS = 30
PAUSE_S, KEPT_S = 2.0, 2.0
END_S = 0.25
"""Between the length of a file and that of the calls: its first and last picture, and two pauses rounded."""
JUMP_S = 0.04
"""A picture is in a slot of the recording's clock, and a pause begins and ends with a block of sound."""
STEADY = AudioSpec(tone_hz=440, level=0.3, beep_level=0.5)
KINDS = ("camera", "microphone")
FMP4 = "HLS_FMP4_PROTOCOL"
CAMERA = VideoSpec(width=640, height=360, encoded=True)


def silences_s(path: Path) -> list[tuple[float, float]]:
    """(where, how long) of stretches of 10 ms without sound, but for what comes before it begins."""
    heard = sound(path)
    window = heard.sample_rate // 100
    wave = heard.samples.mean(axis=0)
    blocks = wave[: len(wave) // window * window].reshape(-1, window)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 0.05
    first, last = int(np.argmax(loud)), len(loud) - 1 - int(np.argmax(loud[::-1]))
    quiet = np.flatnonzero(~loud[first:last]) + first
    runs = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
    return [(float(run[0]) / 100, len(run) / 100) for run in runs if len(run)]


def told(info: Info) -> tuple[float, list[float]]:
    """What the manifest says, in s: from the start to the end, and each pause."""
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    pauses = [(each["resumed_at"] - each["paused_at"]) / 1e9 for each in manifest["pauses"]]
    return (manifest["ended_at"] - manifest["started_at"]) / 1e9, pauses


def check(info: Info, pauses: int) -> None:
    """The file is what was not paused: no more, no less, and without a hole."""
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert "Paused" not in info["details"]
    path, (_, lengths_s) = location(info), told(info)
    assert len(lengths_s) == pauses
    facts, found = probe(path), counters(path)
    assert facts.video is not None and facts.audio is not None
    sent_s = (found.values[-1] - found.values[0] + 1) / FPS
    assert facts.video.duration_s == pytest.approx(sent_s - sum(lengths_s), abs=JUMP_S * pauses)
    assert facts.audio.gaps == ()
    assert facts.video.rising
    assert facts.video.longest_gap_s < 1.5 / FPS
    assert abs(facts.video.duration_s - facts.audio.duration_s) < 0.04
    assert not [silent for silent in silences_s(path) if silent[1] > 0.04], silences_s(path)
    # A resume may take only 0.2 s, so it is their number that tells the jumps of pauses from others.
    steps = np.sort(np.diff(found.values))
    others, jumps = steps[:-pauses], steps[-pauses:]
    assert (jumps - 1) / FPS == pytest.approx(sorted(lengths_s), abs=JUMP_S)
    assert others[0] >= 0 and others[-1] <= FPS // 2


async def pause(service: Service, egress_id: str) -> None:
    info = await service.control("PauseEgress", egress_id)
    assert (info["status"], info["details"]) == ("EGRESS_ACTIVE", "Paused")


async def resume(service: Service, egress_id: str) -> None:
    info = await service.control("ResumeEgress", egress_id)
    assert (info["status"], info["details"]) == ("EGRESS_ACTIVE", "")


async def record_with_pause(service: Service, method: str, kept_s: float, **request: object) -> Info:
    """Paused once after so long."""
    started = await service.call(method, **request)
    egress_id = str(started["egress_id"])
    await service.active(egress_id)
    await asyncio.sleep(kept_s)
    await pause(service, egress_id)
    await asyncio.sleep(PAUSE_S)
    await resume(service, egress_id)
    await asyncio.sleep(KEPT_S)
    info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    return info


@pytest.mark.quiet
async def test_pauses_are_left_out_and_nothing_is_received_meanwhile(tmp_path: Path) -> None:
    """Seen on the wire; the first by the API of our own, the others by UpdateLayout, as any SDK can."""
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, "cut", "ann", CAMERA, STEADY),
    ):
        relay.joining = Leg.RECORDER
        started = await service.call(
            "StartRoomCompositeEgress", room_name="cut", file_outputs=[{"filepath": "cut.mp4"}]
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(KEPT_S)
        assert sum(relay.received.values()) > 100
        await pause(service, egress_id)
        relay.received.clear()
        await asyncio.sleep(PAUSE_S)
        # A server probes with a few packets of padding; these tracks send 80 a second.
        assert sum(relay.received.values()) < 20, relay.received
        await resume(service, egress_id)
        for _ in range(2):
            await asyncio.sleep(KEPT_S)
            info = await service.call("UpdateLayout", egress_id=egress_id, layout="@pause")
            assert info["details"] == "Paused"
            info = await service.call("UpdateLayout", egress_id=egress_id, layout="@resume")
            assert info["details"] == ""
        await asyncio.sleep(KEPT_S)
        check(await service.finish(egress_id), 3)


@pytest.mark.quiet
async def test_segments_and_images_leave_it_out_and_tell_the_time(parts: Parts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "pieces", "ann", CAMERA, STEADY):
        info = await record_with_pause(
            service,
            "StartRoomCompositeEgress",
            KEPT_S + 0.5,  # not at the end of a segment
            room_name="pieces",
            segment_outputs=[{"filename_prefix": "hls/pieces", "segment_duration": 2}],
            image_outputs=[{"filename_prefix": "images/pieces", "capture_interval": 1}],
        )
    _, (paused_s,) = told(info)
    playlist = service.out / info["segment_results"][0]["playlist_name"]
    hls_rules.check(playlist)
    (broken,) = [each for each in m3u8.load(str(playlist)).segments if each.discontinuity]
    began_s = int(info["segment_results"][0]["started_at"]) / 1e9
    found = counters(playlist)
    jump = int(np.argmax(np.diff(found.values)))
    assert (found.values[jump + 1] - found.values[jump] - 1) / FPS == pytest.approx(paused_s, abs=JUMP_S)
    # The first picture after the pause is the first of its segment, and has the time of the room.
    assert broken.program_date_time is not None
    resumed_s = broken.program_date_time.timestamp() - began_s
    assert resumed_s - paused_s == pytest.approx(found.read[jump + 1][0] - found.read[0][0], abs=JUMP_S)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    (pause_of,) = manifest["pauses"]
    taken_s = [datetime.fromisoformat(image["timestamp"]).timestamp() for image in manifest["images"]]
    assert len(taken_s) == int(info["image_results"][0]["image_count"]) >= 4
    from_s, to_s = pause_of["paused_at"] / 1e9 + JUMP_S, pause_of["resumed_at"] / 1e9 - JUMP_S
    assert not [at_s for at_s in taken_s if from_s < at_s < to_s]
    assert max(taken_s) > to_s


@pytest.mark.quiet
async def test_a_participant_is_paused_before_the_first_frame_and_stopped_while_paused(
    parts: Parts,
) -> None:
    """The first pause is asked for in the room, before anybody publishes."""
    service = parts.service
    async with Publisher(parts.livekit, "still", "ann") as ann:
        outputs = [{"filepath": "still.mp4"}]
        started = await service.call(
            "StartParticipantEgress",
            room_name="still",
            identity="ann",
            file_outputs=outputs,
            preset="H264_720P_30",
        )
        egress_id = str(started["egress_id"])
        await pause_in_room(parts.livekit, "still", egress_id)
        await ann.publish("camera", CAMERA)
        await ann.publish("microphone", STEADY)
        info = await service.active(egress_id)
        async with asyncio.timeout(5):
            while info["details"] != "Paused":
                info = await service.info(egress_id)
        await asyncio.sleep(PAUSE_S)
        await resume(service, egress_id)
        await asyncio.sleep(KEPT_S)
        await pause(service, egress_id)
        await asyncio.sleep(PAUSE_S)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    whole_s, lengths_s = told(info)
    assert len(lengths_s) == 2
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s == pytest.approx(whole_s - sum(lengths_s), abs=END_S)
    assert facts.audio.gaps == ()


async def pause_in_room(livekit: LivekitServer, room: str, egress_id: str) -> None:
    """As soon as the recorder is there."""
    asked = UpdateParticipantRequest(room=room, identity=egress_id, attributes={"egress.paused": "true"})
    while True:
        try:
            await livekit.room_service().update_participant(asked)
            return
        except TwirpError as error:
            assert error.code == TwirpErrorCode.NOT_FOUND
            await asyncio.sleep(POLL_S)


@pytest.mark.quiet
async def test_sound_alone(parts: Parts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "sound", "ann", None, STEADY):
        files = [{"filepath": "sound.ogg"}]
        asked = {"room_name": "sound", "audio_only": True, "file_outputs": files}
        info = await record_with_pause(service, "StartRoomCompositeEgress", KEPT_S, **asked)
    whole_s, (paused_s,) = told(info)
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.gaps == ()
    assert facts.audio.duration_s == pytest.approx(whole_s - paused_s, abs=END_S)
    assert not [silent for silent in silences_s(location(info)) if silent[1] > 0.04]


async def test_a_stream_goes_on_with_a_card_and_so_does_its_file(parts: Parts) -> None:
    """The length is kept; nothing is seen or heard of the room in between, to within 40 ms."""
    service = parts.service
    with RtmpServer() as rtmp:
        async with Publisher(parts.livekit, "held", "ann", CAMERA, STEADY):
            info = await record_with_pause(
                service,
                "StartRoomCompositeEgress",
                KEPT_S,
                room_name="held",
                file_outputs=[{"filepath": "held.mp4"}],
                stream_outputs=[{"protocol": "RTMP", "urls": [rtmp.rtmp_url("live/held-by-a-card")]}],
            )
        (received,) = rtmp.recordings()
        manifest = json.loads(Path(info["manifest_location"]).read_text())
        (held,) = manifest["pauses"]
        began_s, ended_s = ((held[key] - manifest["started_at"]) / 1e9 for key in ("paused_at", "resumed_at"))
        assert held["resumed_at"] - held["paused_at"] >= PAUSE_S * 1e9
        for path in (location(info), received):
            facts = probe(path)
            assert facts.video is not None and facts.audio is not None
            assert facts.audio.gaps == () and facts.video.rising
            assert facts.video.longest_gap_s < 0.2
            assert facts.video.duration_s == pytest.approx(told(info)[0], abs=1.0)
    silent = max(silences_s(location(info)), key=lambda each: each[1])
    assert silent[0] == pytest.approx(began_s, abs=JUMP_S)
    assert silent[0] + silent[1] >= ended_s - JUMP_S
    read = counters(location(info)).read
    assert [at_s for at_s, counter in read if counter is not None and began_s + 0.1 < at_s < ended_s] == []


async def test_tracks_as_they_come(tmp_path: Path) -> None:
    """Two tracks in a file and in segments, and all tracks of the room: what is paused is in none, nothing
    else is missing, and nothing is received meanwhile."""
    camera = VideoSpec(codec="h264", width=640, height=360, encoded=True)
    room = "as-they-come"
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, room, "ann", camera, STEADY) as ann,
    ):
        relay.joining = Leg.RECORDER
        with pytest.raises(Refused, match="on_pause=hold"):
            await service.call_with(
                "on_pause=hold",
                "StartTrackEgress",
                room_name=room,
                track_id=ann.sid("camera"),
                file={"filepath": "never"},
            )
        one = await service.call(
            "StartTrackCompositeEgress",
            room_name=room,
            audio_track_id=ann.sid("microphone"),
            video_track_id=ann.sid("camera"),
            file_outputs=[{"filepath": "as-they-come.mp4"}],
            segment_outputs=[
                {"filename_prefix": "hls/as-they-come", "segment_duration": 2, "protocol": FMP4}
            ],
        )
        every = await service.call(
            "StartRoomCompositeEgress",
            room_name=room,
            layout="tracks",
            file_outputs=[{"filepath": "all.mkv"}],
        )
        ids = [str(info["egress_id"]) for info in (one, every)]
        for egress_id in ids:
            await service.active(egress_id)
        await asyncio.sleep(KEPT_S + 0.5)  # not at the end of a segment
        assert sum(relay.received.values()) > 200
        for egress_id in ids:
            await pause(service, egress_id)
        relay.received.clear()
        await asyncio.sleep(PAUSE_S)
        # As above, for two recorders.
        assert sum(relay.received.values()) < 40, relay.received
        for egress_id in ids:
            await resume(service, egress_id)
        await asyncio.sleep(KEPT_S)
        whole, tracks = [await service.finish(egress_id) for egress_id in ids]
    assert json.loads(Path(whole["manifest_location"]).read_text())["passthrough"]
    path = location(whole)
    playlist = service.out / whole["segment_results"][0]["playlist_name"]
    hls_rules.check(playlist)
    (broken,) = [each for each in m3u8.load(str(playlist)).segments if each.discontinuity]
    began_s = int(whole["segment_results"][0]["started_at"]) / 1e9
    assert broken.program_date_time is not None
    resumed_s = broken.program_date_time.timestamp() - began_s
    # Sound may begin before the first picture: times are those of the recording, which segments have a second
    # later.
    for found, zero_s in ((counters(path), 0.0), (counters(playlist), OFFSET_NS / 1e9)):
        jump = check_jump(found, told(whole)[1])
        at_s = found.read[jump + 1][0] - zero_s
        assert resumed_s - told(whole)[1][0] == pytest.approx(at_s, abs=JUMP_S)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.rising and facts.audio.contiguous
    assert facts.video.duration_s == pytest.approx(told(whole)[0] - sum(told(whole)[1]), abs=END_S)
    assert not [silent for silent in silences_s(path) if silent[1] > 0.1]
    check_tracks(tracks)


def check_jump(found: Counters, pauses_s: list[float]) -> int:
    """Where the counters jump by the only pause; they jump nowhere else."""
    steps = np.diff(found.values)
    jump = int(np.argmax(steps))
    assert (steps[jump] - 1) / FPS == pytest.approx(pauses_s[0], abs=2 * JUMP_S)
    others = np.delete(steps, jump)
    assert others.min() >= 0 and others.max() <= FPS // 2
    return jump


def check_tracks(info: Info) -> None:
    """Both tracks leave out the same, and begin where the pause began, each to within 40 ms."""
    whole_s, pauses_s = told(info)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    paused_s = (manifest["pauses"][0]["paused_at"] - manifest["started_at"]) / 1e9
    path = location(info)
    picture, voice = (extract(path, f"ann ({what})", path.with_suffix(f".{what}.mkv")) for what in KINDS)
    found = counters(picture)
    jump = check_jump(found, pauses_s)
    assert found.read[jump + 1][0] == pytest.approx(paused_s, abs=JUMP_S)
    facts = probe(voice)
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(whole_s - sum(pauses_s), abs=END_S)
    silent = [(at_s, for_s) for at_s, for_s in silences_s(voice) if for_s > JUMP_S]
    assert not silent, silent
