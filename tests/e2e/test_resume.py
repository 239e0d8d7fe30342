"""A recording whose process is killed goes on as the same egress, in one file."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8
import numpy as np
import pytest
import pytest_asyncio

from testkit import hls_rules
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import counters, has_tone, probe, tones
from testkit.service import Info, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

FPS = 30
KEPT_S = 2.5
LIMIT_S = 8
JUMP_S = 0.1
"""A picture more or less at both ends of a gap."""
HELD_S = 1.5
"""Of pictures, what waits for the encoder and what that holds, which a kill costs beside the gap: a second on
a machine that is busy. Sound is written until the gap."""
MAY_BE_LOST_S = 2.0
"""As tests.e2e.test_crashes has it."""
STEADY = AudioSpec(tone_hz=440, level=0.3, beep_level=0.5)
CAMERA = VideoSpec(width=640, height=360, encoded=True)


@dataclass(frozen=True, slots=True)
class ResumeParts:
    livekit: LivekitServer
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ResumeParts]:
    async with LivekitServer() as livekit, Service(tmp_path_factory.mktemp("resume"), livekit) as service:
        yield ResumeParts(livekit, service)


async def start(service: Service, room: str, options: str = "resume=true", **outputs: Any) -> str:
    asked = outputs or {"file_outputs": [{"filepath": f"{room}.mp4"}]}
    info = await service.call_with(options, "StartRoomCompositeEgress", room_name=room, **asked)
    egress_id = str(info["egress_id"])
    await service.active(egress_id)
    return egress_id


async def resumed(service: Service, egress_id: str, text: str) -> Info:
    """The record once its details hold `text`. It is active all the time."""
    async with asyncio.timeout(25):
        while text not in (info := await service.info(egress_id))["details"]:
            assert info["status"] == "EGRESS_ACTIVE", info
            await asyncio.sleep(0.02)
    assert info["status"] == "EGRESS_ACTIVE"
    return info


def manifest_of(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(info["manifest_location"]).read_text())
    return found


def gaps_s(info: Info) -> list[float]:
    return [(each["resumed_at"] - each["lost_at"]) / 1e9 for each in manifest_of(info)["restarts"]]


def check(info: Info, restarts: int) -> None:
    """One file of all that was recorded, whose counters jump by the gaps that the manifest tells."""
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert len(info["file_results"]) == 1
    told_s = gaps_s(info)
    assert len(told_s) == restarts
    path = location(info)
    facts, found = probe(path), counters(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.rising
    steps = np.diff(found.values)
    assert steps.min() >= 0
    jumps_s = np.sort(steps)[-restarts:] / FPS
    for jump_s, told in zip(jumps_s, sorted(told_s), strict=True):
        assert told - JUMP_S < jump_s < told + HELD_S
    sent_s = (found.values[-1] - found.values[0] + 1) / FPS
    assert facts.video.duration_s == pytest.approx(sent_s - sum(told_s), abs=JUMP_S * restarts)
    assert sum(length for _, length in facts.audio.gaps) < 0.05, facts.audio.gaps
    for each in manifest_of(info)["restarts"]:
        at_s = each["position"] / 1e9
        for from_s, to_s in ((at_s - 1.0, at_s - 0.1), (at_s + 0.4, at_s + 1.2)):
            assert has_tone(tones(path, start_s=from_s, end_s=to_s), 440)


async def test_a_handler_that_is_killed_twice_is_followed_by_another(parts: ResumeParts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "twice", "ann", CAMERA, STEADY):
        egress_id = await start(service, "twice")
        for text in ("died (", "died 2 times ("):
            await asyncio.sleep(KEPT_S)
            os.kill(service.handler_pid(), signal.SIGKILL)
            await resumed(service, egress_id, text)
        await asyncio.sleep(KEPT_S)
        info = await service.finish(egress_id)
    check(info, 2)


async def test_a_service_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """All of it at once, as a container is; the service alone, whose handler outlives it; and, while it is
    paused, a handler. A service that is told to end now leaves it too."""
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, "whole", "ann", CAMERA, STEADY),
    ):
        egress_id = await start(service, "whole")
        await asyncio.sleep(KEPT_S)
        await service.kill_all()
        await service.start()
        await resumed(service, egress_id, "died (")
        await asyncio.sleep(KEPT_S)
        await service.kill()
        await service.start()
        await resumed(service, egress_id, "died 2 times (")
        await asyncio.sleep(KEPT_S)
        await service.stop()
        await service.start()
        await resumed(service, egress_id, "died 3 times (")
        await asyncio.sleep(KEPT_S)
        await service.control("PauseEgress", egress_id)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await resumed(service, egress_id, "died 4 times (")
        assert info["details"].startswith("Paused; ")
        await asyncio.sleep(KEPT_S)
        await service.control("ResumeEgress", egress_id)
        await asyncio.sleep(KEPT_S)
        info = await service.finish(egress_id)
        async with asyncio.timeout(10):
            while list((service.data / "spool").glob("EG_*")):  # noqa: ASYNC110 - a folder tells nobody
                await asyncio.sleep(0.05)
    *gaps, before_s = gaps_s(info)
    assert 0 <= before_s < 2.0
    (paused,) = manifest_of(info)["pauses"]
    paused_s = (paused["resumed_at"] - paused["paused_at"]) / 1e9
    assert paused_s > KEPT_S
    facts, found = probe(location(info)), counters(location(info))
    assert facts.video is not None and facts.video.rising
    left_out_s = sorted([*gaps, before_s + paused_s])
    jumps_s = np.sort(np.diff(found.values))[-4:] / FPS
    for jump_s, told in zip(jumps_s, left_out_s, strict=True):
        assert told - JUMP_S < jump_s < told + HELD_S
    assert 5 * KEPT_S - 4 * MAY_BE_LOST_S < facts.duration_s < 5 * KEPT_S + MAY_BE_LOST_S


async def test_one_that_is_stopped_before_another_took_over_is_complete(parts: ResumeParts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "stopped", "ann", CAMERA, STEADY):
        egress_id = await start(service, "stopped")
        await asyncio.sleep(KEPT_S)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert probe(location(info)).duration_s > KEPT_S - MAY_BE_LOST_S


async def test_segments_and_images_go_on_in_the_same_playlists(parts: ResumeParts) -> None:
    """And so does what was changed while it ran: the limit of its length ends it, gaps not counted."""
    service = parts.service
    async with Publisher(parts.livekit, "pieces", "ann", CAMERA, STEADY):
        egress_id = await start(
            service,
            "pieces",
            segment_outputs=[
                {
                    "filename_prefix": "hls/pieces",
                    "live_playlist_name": "hls/live.m3u8",
                    "segment_duration": 2,
                    "protocol": "HLS_FMP4_PROTOCOL",
                }
            ],
            image_outputs=[{"filename_prefix": "images/pieces", "capture_interval": 1}],
        )
        await service.control("SetOptions", egress_id, options={"max_duration": f"{LIMIT_S}s"})
        await service.control("AddMarker", egress_id, name="before")
        await asyncio.sleep(KEPT_S + 0.7)  # the segment that is cut by it is longer than half a second
        os.kill(service.handler_pid(), signal.SIGKILL)
        await resumed(service, egress_id, "died (")
        await service.control("AddMarker", egress_id, name="after")
        info = await service.wait(egress_id)
    assert info["status"] == "EGRESS_LIMIT_REACHED"
    (gap_s,) = gaps_s(info)
    manifest = manifest_of(info)
    (result,), (images,) = info["segment_results"], info["image_results"]
    path = service.out / result["playlist_name"]
    hls_rules.check(path)
    playlist = m3u8.load(str(path))
    (broken,) = [each for each in playlist.segments if each.discontinuity]
    assert m3u8.load(result["live_playlist_location"]).is_endlist
    assert [each.uri for each in playlist.segments] == [
        f"pieces_{number:05d}.m4s" for number in range(int(result["segment_count"]))
    ]
    listed = [each["location"] for each in manifest["playlists"][0]["segments"]]
    assert listed == [str(path.parent / str(each.uri)) for each in playlist.segments]
    assert sum(each.duration for each in playlist.segments) == pytest.approx(LIMIT_S, abs=0.5)
    tags = [(path.parent / str(each.uri)).read_bytes().count(b"ID3\x04") for each in playlist.segments]
    assert sum(tags) == 2, "each marker is among the media once"
    assert broken.program_date_time is not None
    (restart,) = manifest["restarts"]
    assert broken.program_date_time.timestamp() == pytest.approx(restart["resumed_at"] / 1e9, abs=JUMP_S)
    found = counters(path)
    assert told_jump(found.values, gap_s)
    assert [each["name"] for each in manifest["markers"]] == ["before", "after"]
    assert manifest["markers"][1]["position"] >= restart["position"]
    taken = [Path(each["location"]) for each in manifest["images"]]
    assert len(taken) == int(images["image_count"]) >= LIMIT_S - 1
    assert len(set(taken)) == len(taken) and all(each.is_file() for each in taken)


def told_jump(values: np.ndarray[Any, Any] | list[int], gap_s: float) -> bool:
    jump_s = float(np.diff(values).max()) / FPS
    return gap_s - JUMP_S < jump_s < gap_s + HELD_S


async def test_tracks_go_on_as_they_come(parts: ResumeParts) -> None:
    """Each picture that was written is in the file as it was sent, and only those of the gap are missing."""
    service = parts.service
    camera = VideoSpec("h264", width=320, height=180, kbps=400, encoded=True)
    async with Publisher(parts.livekit, "tracks", "ann", camera, STEADY) as ann:
        info = await service.call_with(
            "resume=true",
            "StartTrackCompositeEgress",
            room_name="tracks",
            video_track_id=ann.sid("camera"),
            audio_track_id=ann.sid("microphone"),
            file_outputs=[{"filepath": "tracks.mp4"}],
        )
        egress_id = str(info["egress_id"])
        await service.active(egress_id)
        await asyncio.sleep(KEPT_S)
        os.kill(service.handler_pid(), signal.SIGKILL)
        await resumed(service, egress_id, "died (")
        await asyncio.sleep(KEPT_S)
        info = await service.finish(egress_id)
        dropped, sent_ns = await ann.dropped(), ann.sent_ns()
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert manifest_of(info)["passthrough"]
    (gap_s,) = gaps_s(info)
    found = counters(location(info))
    assert found.in_order and told_jump(found.values, gap_s)
    at = int(np.argmax(np.diff(found.values)))
    first, last = found.values[at : at + 2]
    assert len([n for n in found.missing_of(sent_ns) if not first < n < last]) <= dropped
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None and facts.video.rising
