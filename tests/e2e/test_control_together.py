"""What steers a recording, together: pauses, people, limits and markers, over the death of a process."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from livekit.api import UpdateParticipantRequest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import Rect, counters, has_tone, mean_colour, probe, tones
from testkit.service import Info, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT_S = 2.0
EDGE_S = 0.7
ANN_HZ, BOB_HZ = 440, 880
MAX_BYTES = 900_000
PAUSES = 100
CORNER = Rect(960, 600, 240, 80)
"""Where a text is."""
CAMERA = VideoSpec(width=640, height=360, encoded=True)


@dataclass(frozen=True, slots=True)
class SteeredParts:
    livekit: LivekitServer
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SteeredParts]:
    async with LivekitServer() as livekit, Service(tmp_path_factory.mktemp("steered"), livekit) as service:
        yield SteeredParts(livekit, service)


async def start(service: Service, room: str, options: str) -> str:
    files = [{"filepath": f"{room}.mp4"}]
    info = await service.call_with(
        options, "StartRoomCompositeEgress", room_name=room, layout="grid", file_outputs=files
    )
    egress_id = str(info["egress_id"])
    await service.active(egress_id)
    return egress_id


async def killed(service: Service, egress_id: str) -> None:
    """Its process; returns when another one has gone on."""
    os.kill(service.handler_pid(), signal.SIGKILL)
    async with asyncio.timeout(25):
        while "Resumed" not in (await service.info(egress_id))["details"]:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


def manifest_of(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(info["manifest_location"]).read_text())
    return found


async def test_who_opts_out_while_it_is_paused_stays_out_over_a_crash(parts: SteeredParts) -> None:
    """Until they opt in again."""
    service, room = parts.service, "consent-paused"

    async def says(exclude: str) -> None:
        attributes = {"egress.exclude": exclude}
        await parts.livekit.room_service().update_participant(
            UpdateParticipantRequest(room=room, identity="bob", attributes=attributes)
        )

    async with (
        Publisher(parts.livekit, room, "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)),
        Publisher(parts.livekit, room, "bob", CAMERA, AudioSpec(tone_hz=BOB_HZ)),
    ):
        egress_id = await start(service, room, "resume=true")
        await asyncio.sleep(KEPT_S)
        await service.control("PauseEgress", egress_id)
        await says("true")
        await asyncio.sleep(EDGE_S)
        await service.control("ResumeEgress", egress_id)
        await service.control("AddMarker", egress_id, name="out")
        await asyncio.sleep(KEPT_S)
        await killed(service, egress_id)
        await asyncio.sleep(KEPT_S)
        await service.control("AddMarker", egress_id, name="in")
        await says("false")
        await asyncio.sleep(KEPT_S)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    path, manifest = location(info), manifest_of(info)
    out_s, in_s = (each["position"] / 1e9 for each in manifest["markers"])
    assert has_tone(tones(path, start_s=0.2, end_s=out_s - EDGE_S), BOB_HZ)
    alone = tones(path, start_s=out_s, end_s=in_s)
    assert has_tone(alone, ANN_HZ) and not has_tone(alone, BOB_HZ)
    assert has_tone(tones(path, start_s=in_s + EDGE_S, end_s=in_s + KEPT_S - 0.2), BOB_HZ)


async def test_the_size_counts_what_an_earlier_process_wrote(parts: SteeredParts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "largest", "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)):
        egress_id = await start(service, "largest", f"resume=true&max_size={MAX_BYTES}")
        await asyncio.sleep(KEPT_S)
        await killed(service, egress_id)
        info = await service.wait(egress_id)
    assert info["status"] == "EGRESS_LIMIT_REACHED" and "max_size reached" in info["details"]
    assert MAX_BYTES / 3 < location(info).stat().st_size <= MAX_BYTES


@pytest.mark.parametrize(
    ("rule", "leaves"), [("stop_when_empty", True), ("stop_when_idle", False), ("stop_when_silent", False)]
)
async def test_what_ends_it_is_set_while_it_runs(parts: SteeredParts, rule: str, leaves: bool) -> None:
    service, room = parts.service, f"set-{rule}"
    async with (
        Publisher(parts.livekit, room, "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)) as ann,
        Publisher(parts.livekit, room, "listener", None, None),
    ):
        egress_id = await start(service, room, "resume=true")
        await service.control("SetOptions", egress_id, options={rule: "1s"})
        await asyncio.sleep(KEPT_S)
        assert (await service.info(egress_id))["status"] == "EGRESS_ACTIVE"
        for kind in ("camera", "microphone"):
            await ann.unpublish(kind)
        if not leaves:
            info = await service.wait(egress_id)
    if leaves:
        info = await service.wait(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert rule in info["details"]


async def test_an_empty_room_ends_what_is_paused(parts: SteeredParts) -> None:
    """Nobody could resume what they do not know of. What was recorded before is whole."""
    service = parts.service
    async with Publisher(parts.livekit, "left-paused", "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)):
        egress_id = await start(service, "left-paused", "resume=true&stop_when_empty=1s")
        await asyncio.sleep(KEPT_S)
        await service.control("PauseEgress", egress_id)
    info = await service.wait(egress_id)
    assert info["status"] == "EGRESS_COMPLETE" and "stop_when_empty" in info["details"]
    assert probe(location(info)).duration_s == pytest.approx(KEPT_S, abs=1.0)


@pytest.mark.timeout(400)
async def test_a_hundred_pauses(parts: SteeredParts) -> None:
    """The file is what was not paused, without a hole."""
    service = parts.service
    async with Publisher(parts.livekit, "hundred", "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)):
        egress_id = await start(service, "hundred", "on_pause=cut")
        for _ in range(PAUSES):
            await service.control("PauseEgress", egress_id)
            await service.control("ResumeEgress", egress_id)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    manifest, facts = manifest_of(info), probe(location(info))
    lengths_s = [(each["resumed_at"] - each["paused_at"]) / 1e9 for each in manifest["pauses"]]
    assert len(lengths_s) == PAUSES and min(lengths_s) > 0
    whole_s = (manifest["ended_at"] - manifest["started_at"]) / 1e9
    assert facts.duration_s == pytest.approx(whole_s - sum(lengths_s), abs=1.0)
    assert facts.video is not None and facts.video.rising and facts.audio is not None
    assert np.diff(counters(location(info)).values).min() >= 0
    assert sum(length for _, length in facts.audio.gaps) < 0.05, facts.audio.gaps


async def test_how_it_is_to_look_outlives_a_process(parts: SteeredParts) -> None:
    """What is asked for in the room is known to whoever goes on."""
    service = parts.service
    text = {"text": "MMMMMMMM", "text_size": "12%", "text_corner": "bottom-right"}
    async with Publisher(parts.livekit, "looks-kept", "ann", CAMERA, AudioSpec(tone_hz=ANN_HZ)):
        egress_id = await start(service, "looks-kept", "resume=true")
        await asyncio.sleep(KEPT_S)
        await service.control("SetOptions", egress_id, options=text)
        await asyncio.sleep(KEPT_S)
        await killed(service, egress_id)
        await asyncio.sleep(KEPT_S)
        info = await service.finish(egress_id)
    path, (gap,) = location(info), manifest_of(info)["restarts"]
    before, after = (mean_colour(path, at_s, CORNER)[0] for at_s in (0.2, gap["position"] / 1e9 + 0.3))
    assert after > before + 30
