"""Sidecars: what happened in a room lies beside its recording, whatever becomes of the handler."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from openegress.core.units import S
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import probe
from testkit.service import Info, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAMERA = VideoSpec(width=320, height=180, kbps=200, encoded=True)
LOUD, SILENT = AudioSpec(level=0.3), AudioSpec(level=0.0, beep_level=0.0)
SPEAKER_S = 2.0
"""LiveKit takes a second to call somebody a speaker, or no more; a busy machine takes longer."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SidecarParts:
    livekit: LivekitServer
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SidecarParts]:
    async with LivekitServer() as livekit, Service(tmp_path_factory.mktemp("sidecars"), livekit) as service:
        yield SidecarParts(livekit, service)


async def started(service: Service, room: str, layout: str, ending: str) -> str:
    info = await service.call(
        "StartRoomCompositeEgress",
        room_name=room,
        layout=f"{layout}?sidecars=events,speakers",
        file_outputs=[{"filepath": f"{room}{ending}"}],
    )
    await service.active(info["egress_id"])
    return str(info["egress_id"])


def events(info: Info) -> list[Line]:
    path = location(info)
    return [json.loads(line) for line in path.with_suffix(".events.jsonl").read_text().splitlines()]


def named(lines: Sequence[Line], event: str, **fields: Any) -> Line:
    """The first such line."""
    found = [each for each in lines if each["event"] == event and fields.items() <= each.items()]
    assert found, (event, fields, lines)
    return found[0]


def listed(info: Info) -> set[str]:
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    for each in manifest["files"]:
        assert Path(each["location"]).exists()
    return {each["filename"] for each in manifest["files"]}


def check_spoken(path: Path, identity: str, at_s: float) -> None:
    """`at_s`: where it spoke, in media time."""
    rows = [line.split() for line in path.with_suffix(".speakers.rttm").read_text().splitlines()]
    spans = [(float(row[3]), float(row[3]) + float(row[4])) for row in rows if row[7] == identity]
    assert any(begin_s < at_s < end_s for begin_s, end_s in spans), rows
    assert {row[1] for row in rows} == {path.stem}
    assert f"<v {identity}>" in path.with_suffix(".speakers.vtt").read_text()


@pytest.mark.parametrize(("layout", "ending"), [("tracks", ".mkv"), ("speaker", ".mp4")])
async def test_what_happened_in_a_meeting(parts: SidecarParts, layout: str, ending: str) -> None:
    """Ada is there; Bob comes, speaks, mutes himself and goes."""
    room, service, livekit = f"met-{layout}", parts.service, parts.livekit
    walls: dict[str, float] = {}
    async with Publisher(livekit, room, "ada", CAMERA, SILENT):
        egress_id = await started(service, room, layout, ending)
        async with Publisher(livekit, room, "bob", None, LOUD) as bob:
            walls["join"] = time.time()
            await asyncio.sleep(SPEAKER_S)
            bob.mute("microphone")
            walls["mute"] = time.time()
            await asyncio.sleep(1.0)
        walls["leave"] = time.time()
        if layout == "speaker":
            await service.call("UpdateLayout", egress_id=egress_id, layout="grid")
        await asyncio.sleep(1.0)
        info = await service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info
    lines, path = events(info), location(info)
    zero_s = int(info["file_results"][0]["started_at"]) / S
    assert named(lines, "participant_joined", identity="ada")["media_s"] == 0
    for event, wall, more in (
        ("participant_joined", "join", {}),
        ("track_muted", "mute", {"source": "microphone"}),
        ("participant_left", "leave", {}),
    ):
        at_s = named(lines, event, identity="bob", **more)["media_s"]
        assert at_s == pytest.approx(walls[wall] - zero_s, abs=1.0), event
    named(lines, "track_unpublished", identity="bob", kind="audio")
    named(lines, "track_published", identity="ada", kind="video", source="camera", encrypted=False)
    if layout == "speaker":
        layouts = [each["layout"] for each in lines if each["event"] == "layout_changed"]
        assert layouts == ["speaker", "grid"]
    assert lines[0]["event"] == "recording_started"
    assert lines[-1]["event"] == "recording_ended"
    assert lines[-1]["media_s"] == pytest.approx(probe(path).duration_s, abs=1.0)
    check_spoken(path, "bob", walls["mute"] - zero_s - 0.5)
    assert listed(info) == {
        f"{room}{each}" for each in (ending, ".events.jsonl", ".speakers.vtt", ".speakers.rttm")
    }


async def test_nobody_hears_of_who_is_left_out(parts: SidecarParts) -> None:
    room, service, livekit = "left-out", parts.service, parts.livekit
    async with (
        Publisher(livekit, room, "ada", CAMERA, SILENT),
        Publisher(livekit, room, "mallory", None, LOUD),
    ):
        info = await service.call(
            "StartRoomCompositeEgress",
            room_name=room,
            layout="tracks?sidecars=events,speakers&leave_out=mallory",
            file_outputs=[{"filepath": "without.mkv"}],
        )
        await service.active(info["egress_id"])
        await asyncio.sleep(SPEAKER_S)
        info = await service.finish(info["egress_id"])
    path = location(info)
    for ending in (".events.jsonl", ".speakers.vtt", ".speakers.rttm"):
        assert "mallory" not in path.with_suffix(ending).read_text()
    named(events(info), "participant_joined", identity="ada")


async def test_a_kill_keeps_what_had_happened(parts: SidecarParts) -> None:
    room, service = "killed", parts.service
    async with Publisher(parts.livekit, room, "ada", CAMERA, SILENT):
        egress_id = await started(service, room, "tracks", ".mkv")
        async with Publisher(parts.livekit, room, "bob", None, LOUD):
            await asyncio.sleep(SPEAKER_S + 1)
            os.kill(service.pid_of(egress_id), signal.SIGKILL)
            killed_s = time.time()
            info = await service.wait(egress_id)
    lines = events(info)
    zero_s = int(info["file_results"][0]["started_at"]) / S
    named(lines, "participant_joined", identity="bob")
    assert lines[-1]["media_s"] == pytest.approx(killed_s - zero_s, abs=1.5)
    check_spoken(location(info), "bob", killed_s - zero_s - 1.2)
    assert len(listed(info)) == 4
    assert not (service.data / "spool" / egress_id).exists()
