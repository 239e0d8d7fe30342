"""Sidecars: what happened in a room lies beside its recording, whatever becomes of the handler."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from livekit import rtc

from openegress.core.units import S
from testkit.browser_publisher import publishing
from testkit.matroska_reader import extract
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.probe import beep_onsets, probe, rms, sound
from testkit.service import Info, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAMERA = VideoSpec(width=320, height=180, kbps=200, encoded=True)
LOUD, SILENT = AudioSpec(level=0.3), AudioSpec(level=0.0, beep_level=0.0)
SPEAKER_S = 2.0
"""LiveKit takes a second to call somebody a speaker, or no more; a busy machine takes longer."""

PASSPHRASE = b"correct horse battery staple"
STEP_S = 0.1
"""Of a cue against the sound that it goes with."""

Line = dict[str, Any]


@pytest.fixture(scope="module")
def service_config() -> dict[str, Any]:
    return {"room_keys": [{"rooms": ["sealed", "forged"], "key": PASSPHRASE.decode()}]}


async def started(
    service: Service, room: str, layout: str, ending: str, options: str = "sidecars=events,speakers"
) -> str:
    info = await service.call(
        "StartRoomCompositeEgress",
        room_name=room,
        layout=f"{layout}?{options}",
        file_outputs=[{"filepath": f"{room}{ending}"}],
    )
    await service.active(info["egress_id"])
    return str(info["egress_id"])


def events(info: Info) -> list[Line]:
    return lines_of(info, "events")


def lines_of(info: Info, sidecar: str) -> list[Line]:
    path = location(info).with_suffix(f".{sidecar}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


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


async def check_film(path: Path, muted_s: float) -> None:
    """What is composed of the tracks and the events, with Bob heard until then."""
    film = path.with_name("film.mp4")
    command = [sys.executable, "-m", "openegress.cli", "compose", str(path), str(film), "--layout", "speaker"]
    composing = await asyncio.create_subprocess_exec(*command)
    assert await composing.wait() == 0
    facts = probe(film)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.frames == pytest.approx(probe(path).duration_s * 30, abs=10)
    assert facts.video.longest_gap_s < 0.05 and facts.audio.contiguous
    assert rms(film, muted_s - 1.2, muted_s - 0.2) > 0.1 > rms(film, muted_s + 0.5, muted_s + 1.0)


@pytest.mark.parametrize(("layout", "ending"), [("tracks", ".mkv"), ("speaker", ".mp4")])
async def test_what_happened_in_a_meeting(parts: Parts, layout: str, ending: str) -> None:
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
            await service.control("AddMarker", egress_id, name="Bob has left")
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
        marked_s = named(lines, "marker", name="Bob has left")["media_s"]
        assert marked_s == pytest.approx(walls["leave"] - zero_s, abs=1.0)
    assert lines[0]["event"] == "recording_started"
    assert lines[-1]["event"] == "recording_ended"
    assert lines[-1]["media_s"] == pytest.approx(probe(path).duration_s, abs=1.0)
    check_spoken(path, "bob", walls["mute"] - zero_s - 0.5)
    if layout == "tracks":
        await check_film(path, walls["mute"] - zero_s)
    chapters = [".chapters.vtt"] if layout == "speaker" else []
    assert listed(info) == {
        f"{room}{each}" for each in (ending, ".events.jsonl", ".speakers.vtt", ".speakers.rttm", *chapters)
    }


async def test_nobody_hears_of_who_is_left_out(parts: Parts) -> None:
    room, service, livekit = "left-out", parts.service, parts.livekit
    async with (
        Publisher(livekit, room, "ada", CAMERA, SILENT) as ada,
        Publisher(livekit, room, "mallory", None, LOUD) as mallory,
    ):
        options = "sidecars=events,speakers,chat,transcript,data&leave_out=mallory"
        egress_id = await started(service, room, "tracks", ".mkv", options)
        for topic in ("lk.chat", "lk.transcription", "other"):
            await mallory.local.send_text("my secret", topic=topic)
            await ada.local.send_text("what all may know", topic=topic)
        await asyncio.sleep(SPEAKER_S)
        info = await service.finish(egress_id)
    path = location(info)
    for name in listed(info) - {path.name}:
        text = (path.parent / name).read_text()
        assert "mallory" not in text and "secret" not in text
    for sidecar in ("chat", "transcript", "data"):
        assert [each["identity"] for each in lines_of(info, sidecar)] == ["ada"]
    named(events(info), "participant_joined", identity="ada")


async def test_a_kill_keeps_what_had_happened(parts: Parts) -> None:
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


def cues(path: Path) -> list[tuple[float, float, str]]:
    """(begin and end in s, text) as FFmpeg reads them."""
    with av.open(str(path)) as container:
        return [
            (float(each.pts * each.time_base), float(each.duration * each.time_base), bytes(each).decode())
            for each in container.demux()
            if each.pts is not None and each.duration is not None
        ]


async def send_frames(who: Publisher, name: str) -> None:
    """By a data track, from when on somebody has subscribed to it: nothing tells its publisher."""
    track = await who.local.publish_data_track(name=name)
    await asyncio.sleep(1.0)
    for number in range(3):
        track.try_push(rtc.DataTrackFrame(str(number).encode() * 5000, user_timestamp=number))
        await asyncio.sleep(0.1)


@pytest.mark.quiet
async def test_what_was_said_is_in_step_with_the_sound(parts: Parts) -> None:
    """Ada beeps each second. Her agent transcribes each beep, as agents do: first what it takes it for, or
    word by word."""
    room, service, livekit = "said", parts.service, parts.livekit
    options = "sidecars=chat,transcript,data&data_topics=slides*"
    beeps = AudioSpec(level=0.0)
    async with (
        Publisher(livekit, room, "ada", None, beeps) as ada,
        Publisher(livekit, room, "agent", None, kind="agent") as agent,
    ):
        egress_id = await started(service, room, "tracks", ".mkv", options)
        await asyncio.sleep(1.0)
        track_id = ada.sid("microphone")

        async def transcribe(segment: str, final: bool, *words: str) -> None:
            attributes = {"lk.segment_id": segment, "lk.transcription_final": str(final).lower()}
            attributes["lk.transcribed_track_id"] = track_id
            writer = await agent.local.stream_text(
                topic="lk.transcription", sender_identity="ada", attributes=attributes
            )
            for word in words:
                await writer.write(word)
            await writer.aclose()

        for segment in ("one", "two"):
            await asyncio.sleep(1 - time.time() % 1)
            await transcribe(segment, False, "Beep fo")
            await asyncio.sleep(0.3)
            await transcribe(segment, True, "Beep ", f"{segment} <&>")
        await ada.local.send_text("Guten Tag " * 100, topic="lk.chat")
        old = {"id": "1", "timestamp": 1, "message": "of old"}
        await ada.local.publish_data(json.dumps(old), topic="lk-chat-topic")
        await ada.local.publish_data(b"\x00\xff", topic="slides")
        await ada.local.publish_data("3", topic="slides.page", reliable=False)
        await ada.local.publish_data("not asked for", topic="cursor")
        for name in ("slides.track", "cursors"):
            await send_frames(ada, name)
        await asyncio.sleep(1.0)
        info = await service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info
    path = location(info)
    onsets = beep_onsets(sound(extract(path, "ada (microphone)", path.with_suffix(".track.mka"))))
    said = lines_of(info, "transcript")
    assert [(each["identity"], each["text"], each["final"]) for each in said] == [
        ("ada", f"Beep {segment} <&>", True) for segment in ("one", "two")
    ]
    assert {each["track_id"] for each in said} == {track_id}
    shown = cues(path.with_suffix(".vtt"))
    assert [text for _, _, text in shown] == [f"<v ada>Beep {each} &lt;&amp;&gt;" for each in ("one", "two")]
    for begin_s, _, _ in shown:
        assert min(abs(begin_s - onset) for onset in onsets) < STEP_S, (begin_s, onsets)
    chat = [(each["identity"], each["message"], each["operation"]) for each in lines_of(info, "chat")]
    assert chat == [("ada", "Guten Tag " * 100, "create"), ("ada", "of old", "create")]
    data = [(each["topic"], each.get("text"), each.get("base64")) for each in lines_of(info, "data")]
    frames = [("slides.track", str(number) * 5000, None) for number in range(3)]
    assert sorted(data) == [("slides", None, "AP8="), ("slides.page", "3", None), *frames]


async def test_a_message_that_is_edited(parts: Parts) -> None:
    """As livekit-client in a browser sends it."""
    async with (
        PageServer() as pages,
        publishing(parts.livekit, pages, "edited", "ada", "vp8") as ada,
    ):
        egress_id = await started(parts.service, "edited", "tracks", ".mkv", "sidecars=chat")
        sent = await ada.tab.run("room.localParticipant.sendChatMessage('at tree')")
        await ada.tab.run(f"room.localParticipant.editChatMessage('at three', {json.dumps(sent)})")
        await ada.tab.run("room.localParticipant.sendText('see you', { topic: 'lk.chat' })")
        await ada.tab.run("room.disconnect()")
        info = await parts.service.finish(egress_id)
    lines = [(each["id"], each["operation"], each["message"]) for each in lines_of(info, "chat")]
    assert lines[:2] == [(sent["id"], "create", "at tree"), (sent["id"], "update", "at three")]
    assert [line[1:] for line in lines[2:]] == [("create", "see you")]


async def test_what_is_said_in_an_encrypted_room(parts: Parts) -> None:
    """It is decrypted where the room's key is configured; otherwise it is told that there was something."""
    infos: dict[str, Info] = {}
    for room in ("sealed", "sealed-without-a-key"):
        async with (
            Publisher(parts.livekit, room, "ada", None, SILENT, secret=PASSPHRASE) as ada,
            Publisher(parts.livekit, room, "bob", None, SILENT),
        ):
            egress_id = await started(parts.service, room, "tracks", ".mkv", "sidecars=events,chat")
            await ada.local.send_text("in confidence", topic="lk.chat")
            await asyncio.sleep(1.0)
            infos[room] = await parts.service.finish(egress_id)
    assert [each["message"] for each in lines_of(infos["sealed"], "chat")] == ["in confidence"]
    assert lines_of(infos["sealed-without-a-key"], "chat") == []
    named(events(infos["sealed-without-a-key"]), "data_locked", identity="ada")


async def test_nobody_puts_words_into_somebody_elses_mouth(parts: Parts) -> None:
    """Mallory encrypts as all others do. What Ada's agent and Ada herself say is told."""
    room = "forged"
    async with (
        Publisher(parts.livekit, room, "ada", None, SILENT, secret=PASSPHRASE) as ada,
        Publisher(parts.livekit, room, "mallory", None, SILENT, secret=PASSPHRASE) as mallory,
        Publisher(parts.livekit, room, "agent", None, kind="agent", secret=PASSPHRASE) as agent,
    ):
        egress_id = await started(parts.service, room, "tracks", ".mkv", "sidecars=chat,transcript")
        for who, text in ((mallory, "I agree to everything"), (agent, "I agree to nothing")):
            segment = rtc.TranscriptionSegment(
                id=text, text=text, start_time=0, end_time=1, language="en", final=True
            )
            await who.local.publish_transcription(
                rtc.Transcription(
                    participant_identity="ada", track_sid=ada.sid("microphone"), segments=[segment]
                )
            )
            writer = await who.local.stream_text(topic="lk.transcription", sender_identity="ada")
            await writer.write(f"{text} at all")
            await writer.aclose()
        writer = await mallory.local.stream_text(topic="lk.chat", sender_identity="ada")
        await writer.write("Send the money")
        await writer.aclose()
        await ada.local.send_text("my own words", topic="lk.chat")
        await asyncio.sleep(1.0)
        info = await parts.service.finish(egress_id)
    said = {(each["identity"], each["text"]) for each in lines_of(info, "transcript")}
    streams = {("mallory", "I agree to everything at all"), ("agent", "I agree to nothing at all")}
    assert said == {("ada", "I agree to nothing"), *streams}, "the server asserts who sends a stream"
    chat = {(each["identity"], each["message"]) for each in lines_of(info, "chat")}
    assert chat == {("mallory", "Send the money"), ("ada", "my own words")}
