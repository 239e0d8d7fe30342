"""The layout `tracks`: the whole meeting in one file, as people come and go."""

import asyncio
import json
import os
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
import pytest

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from testkit import mcap_reader
from testkit.livekit_server import LivekitServer
from testkit.matroska_reader import ReadTrack, extract, read
from testkit.mcap_reader import read_by_summary, read_data
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec, places
from testkit.parts import Parts
from testkit.probe import Counters, beep_onsets, counters, has_tone, probe, sound, tones
from testkit.service import Info, Service, location

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

CODECS: dict[str, Codec] = {"ada": "vp8", "bob": "h264", "eve": "vp9"}
BEEP_LEVELS = {"ada": 0.5, "bob": 0.15, "eve": 0.3}
BOTH_S, ALL_S, ALONE_S = 3.0, 3.0, 2.0
"""Ada and Bob; with Eve; Ada and Eve after Bob has left."""
PASSPHRASE = b"correct horse battery staple"
APART_S = 0.02
LATE_S = 0.06
"""Of one picture against the moment it was due: a publisher may be late itself."""


Reader = Callable[[Path], list[ReadTrack]]


@pytest.fixture(scope="module")
def service_config() -> dict[str, Any]:
    return {"room_keys": [{"rooms": ["sealed"], "key": PASSPHRASE.decode()}]}


def person(livekit: LivekitServer, room: str, name: str) -> Publisher:
    """Their beeps are unequally loud: equal ones, half a period apart, would cancel each other in a mix."""
    camera = VideoSpec(CODECS[name], width=320, height=180, kbps=300, encoded=True)
    return Publisher(livekit, room, name, camera, AudioSpec(level=0.1, beep_level=BEEP_LEVELS[name]))


async def started(service: Service, room: str, ending: str = ".mkv") -> str:
    info = await service.call(
        "StartRoomCompositeEgress",
        room_name=room,
        layout="tracks",
        file_outputs=[{"filepath": f"{room}{ending}"}],
    )
    await service.active(info["egress_id"])
    return str(info["egress_id"])


def essence(codec: Codec, data: bytes) -> bytes:
    """A picture less what RTP does not carry, of what was sent or of what Matroska holds."""
    if codec != "h264":
        return data
    if data.startswith((b"\0\0\1", b"\0\0\0\1")):
        units = [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")]
    else:
        units, at = [], 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            units.append(data[at + 4 : end].rstrip(b"\0"))
            at = end
    return b"\0\0\1".join(unit for unit in units if unit and unit[0] & 31 in (1, 5, 7, 8))


@dataclass(frozen=True, slots=True)
class Sent:
    """Of a camera, once it is over."""

    pictures: tuple[tuple[bytes, int], ...]
    """(payload, unix ns)."""
    dropped: int


async def sent_by(who: Publisher, leaves: bool = False) -> Sent:
    """Once the recording is over, or by somebody who `leaves` it."""
    dropped = await who.dropped()
    if leaves:
        await who.leave()
    codec = CODECS[who.identity]
    return Sent(tuple((essence(codec, each.data), each.at_ns) for each in who.sent["camera"]), dropped)


def check_pictures(track: ReadTrack, who: str, sent: Sent, zero_ns: int) -> float:
    """By how much its pictures lie behind the moments they were due, in s: the median."""
    payloads = [essence(CODECS[who], packet.data) for packet in track.packets]
    published = [payload for payload, _ in sent.pictures]
    due_ns = [sent.pictures[place][1] for place in places(payloads, published, sent.dropped)]
    late_s = [
        packet.at_s + (zero_ns - at_ns) / S for packet, at_ns in zip(track.packets, due_ns, strict=True)
    ]
    assert track.packets[0].is_key
    assert max(abs(each) for each in late_s) < LATE_S
    return median(late_s)


def beeps_late_s(path: Path, title: str, zero_ns: int) -> float:
    """By how much its beeps lie behind whole seconds of the wall clock, in s: the median."""
    onsets = beep_onsets(sound(extract(path, title, path.with_suffix(".track.mka"))))
    walls = [onset + zero_ns / S for onset in onsets]
    assert len(walls) >= 2
    return median((wall + 0.5) % 1 - 0.5 for wall in walls)


async def test_a_meeting(parts: Parts) -> None:
    """Ada and Bob meet, Eve comes late, Bob leaves: six tracks, each packet as it was sent, in step."""
    livekit, room = parts.livekit, "meeting"
    sent: dict[str, Sent] = {}
    async with person(livekit, room, "ada") as ada:
        bob = person(livekit, room, "bob")
        await bob.join()
        egress_id = await started(parts.service, room)
        await asyncio.sleep(BOTH_S)
        async with person(livekit, room, "eve") as eve:
            eve_s = time.time()
            await asyncio.sleep(ALL_S)
            sent["bob"] = await sent_by(bob)
            await bob.leave()
            bob_s = time.time()
            await asyncio.sleep(ALONE_S)
            info = await parts.service.finish(egress_id)
            sent |= {"ada": await sent_by(ada), "eve": await sent_by(eve)}
    assert info["status"] == "EGRESS_COMPLETE", info
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    tracks = {track.title: track for track in read(path)}
    names = [f"{who} ({what})" for who in sorted(CODECS) for what in ("camera", "microphone")]
    assert sorted(tracks) == names
    for title, track in tracks.items():
        who = title.split()[0]
        assert track.tags["PARTICIPANT_IDENTITY"] == who
        assert track.tags["TRACK_ID"].startswith("TR_")
        assert track.tags["TRACK_SOURCE"] in title
    late_s = [check_pictures(tracks[f"{who} (camera)"], who, sent[who], zero_ns) for who in CODECS]
    late_s += [beeps_late_s(path, f"{who} (microphone)", zero_ns) for who in CODECS]
    assert max(late_s) - min(late_s) < APART_S, late_s
    for kind in ("camera", "microphone"):
        assert abs(tracks[f"eve ({kind})"].packets[0].at_s + zero_ns / S - eve_s) < 1.5
        assert abs(tracks[f"bob ({kind})"].packets[-1].at_s + zero_ns / S - bob_s) < 0.5
    assert float(info["file_results"][0]["duration"]) / S == pytest.approx(BOTH_S + ALL_S + ALONE_S, abs=1.5)


def ends_s(tracks: list[ReadTrack]) -> list[float]:
    return [track.packets[-1].at_s for track in tracks]


@pytest.mark.parametrize(
    ("ending", "read", "read_whole"),
    [(".mkv", read, read), (".mp4", read, read), (".mcap", mcap_reader.read, read_by_summary)],
)
async def test_a_kill_keeps_all_but_the_last_moment(
    parts: Parts, ending: str, read: Reader, read_whole: Reader
) -> None:
    """What was recorded plays before the recovery has touched it, and is whole after it, as it was sent."""
    room, service = f"killed{ending}", parts.service
    async with person(parts.livekit, room, "ada") as ada, person(parts.livekit, room, "bob") as bob:
        egress_id = await started(service, room, ending)
        await asyncio.sleep(4)
        (growing,) = (service.data / "spool" / egress_id).rglob(f"recording{ending}")
        while_growing = read(growing)
        os.kill(service.pid_of(egress_id), signal.SIGKILL)
        killed_s = time.time()
        info: Info = await service.wait(egress_id)
        sent = {"ada": await sent_by(ada), "bob": await sent_by(bob)}
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    assert path.suffix == ending
    tracks = read_whole(path)
    assert len(tracks) == len(while_growing) == 4
    titles = {track.title: track for track in tracks}
    late_s = [
        check_pictures(titles[f"{who} (camera)"], who, pictures, zero_ns) for who, pictures in sent.items()
    ]
    if ending == ".mp4":
        late_s += [beeps_late_s(path, f"{who} (microphone)", zero_ns) for who in sent]
    assert max(late_s) - min(late_s) < APART_S, late_s
    assert all(killed_s - (zero_ns / S + end_s) < 2 for end_s in ends_s(tracks)), ends_s(tracks)
    assert all(end_s > 2 for end_s in ends_s(while_growing))
    for before, after in zip(while_growing, tracks, strict=True):
        assert after.packets[: len(before.packets)] == before.packets


async def test_sound_alone(parts: Parts) -> None:
    async with person(parts.livekit, "voices", "ada"):
        egress_id = await started(parts.service, "voices", ".mka")
        await asyncio.sleep(1.5)
        info = await parts.service.finish(egress_id)
    assert "no picture is recorded" in info["details"]
    (track,) = read(location(info))
    assert (track.kind, track.codec, track.title) == (MediaKind.AUDIO, "opus", "ada (microphone)")


async def test_mcap_ends_with_its_summary(parts: Parts) -> None:
    """What readers seek with; times are those of the wall clock."""
    async with person(parts.livekit, "frames", "ada") as ada:
        egress_id = await started(parts.service, "frames", ".mcap")
        await asyncio.sleep(1.5)
        info = await parts.service.finish(egress_id)
        sent = await sent_by(ada)
    assert info["status"] == "EGRESS_COMPLETE", info
    result = info["file_results"][0]
    tracks = {track.title: track for track in read_by_summary(location(info))}
    assert sorted(tracks) == ["ada (camera)", "ada (microphone)"]
    check_pictures(tracks["ada (camera)"], "ada", sent, int(result["started_at"]))
    assert float(result["duration"]) / S == pytest.approx(max(ends_s([*tracks.values()])), abs=0.1)
    assert int(result["size"]) == location(info).stat().st_size


async def test_chosen_tracks_and_data(parts: Parts) -> None:
    """By a media source of protocol v1.54.0: what is excluded is never subscribed to, and data lies among the
    media as it came."""
    livekit, service, room = parts.livekit, parts.service, "chosen"
    async with person(livekit, room, "ada") as ada, person(livekit, room, "bob") as bob:
        microphone = {"participant_identity": "ada", "track_name": "microphone"}
        told = os.urandom(30_000).hex()
        excluded, included = (bob.sid("camera"), ada.sid("microphone")), ada.sid("camera")
        info = await service.call(
            "StartEgress",
            room_name=room,
            media={
                "videos": {
                    "capture_all": True,
                    "selectors": [{"participant_identity": "bob", "exclude": True}],
                },
                "audio": {"capture_all": True, "routes": [{**microphone, "exclude": True}]},
                "data": {"selectors": [{"track_name": "slides"}, {"track_name": "lk.chat"}]},
            },
            outputs=[{"file": {"filepath": room, "file_type": "MCAP"}}],
        )
        await service.active(info["egress_id"])
        async with person(livekit, room, "eve"):
            await ada.local.publish_data(b"\x00\xff", topic="slides")
            await bob.local.publish_data("not asked for", topic="cursor")
            await bob.local.send_text(told, topic="lk.chat")
            await asyncio.sleep(2.0)
            info = await service.finish(info["egress_id"])
        sent = await sent_by(ada)
    assert info["status"] == "EGRESS_COMPLETE", info
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    tracks = {track.title: track for track in read_by_summary(path)}
    wanted = ["ada (camera)", "bob (microphone)", "eve (camera)", "eve (microphone)"]
    assert sorted(tracks) == wanted
    check_pictures(tracks["ada (camera)"], "ada", sent, zero_ns)
    subscribed = [line for line in service.log.splitlines() if "track subscribed" in line]
    assert any(included in line for line in subscribed)
    assert not any(sid in line for sid in excluded for line in subscribed)
    data = read_data(path)
    assert {each.topic for each in data} == {"/ada/data/slides", "/bob/data/lk.chat"}
    (slide,) = (each for each in data if each.topic == "/ada/data/slides")
    assert slide.packet.user.payload == b"\x00\xff" and zero_ns <= slide.at_ns < time.time_ns()
    pieces = [each.packet for each in data if each.topic == "/bob/data/lk.chat"]
    assert pieces[0].HasField("stream_header") and pieces[-1].HasField("stream_trailer")
    text = b"".join(each.stream_chunk.content for each in pieces)
    if pieces[0].stream_header.compression:
        text = zlib.decompress(text, -zlib.MAX_WBITS)
    assert text.decode() == told


async def test_tracks_beside_a_composite(parts: Parts) -> None:
    """Of the same packets, on the same timeline, with a cut in the middle, and whole after a kill."""
    room, service = "beside", parts.service
    async with person(parts.livekit, room, "ada") as ada, person(parts.livekit, room, "bob") as bob:
        info = await service.call(
            "StartRoomCompositeEgress",
            room_name=room,
            layout="single-speaker?tracks_file=tracks/{room_name}.mkv",
            preset="H264_720P_30",
            file_outputs=[{"filepath": "beside.mp4"}],
        )
        egress_id = info["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(2.5)
        await service.control("PauseEgress", egress_id)
        await asyncio.sleep(1.5)
        await service.control("ResumeEgress", egress_id)
        (growing,) = (service.data / "spool" / egress_id).rglob("recording.mkv")
        paused_s = max(ends_s(read(growing)))
        async with asyncio.timeout(40):
            while min(ends_s(read(growing))) < paused_s + 3:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        while_growing = read(growing)
        os.kill(service.pid_of(egress_id), signal.SIGKILL)
        info = await service.wait(egress_id)
        sent = {"ada": await sent_by(ada), "bob": await sent_by(bob)}
    composed, kept = (Path(each["location"]) for each in info["file_results"])
    assert (composed.name, kept.name, kept.parent.name) == ("beside.mp4", "beside.mkv", "tracks")
    listed = json.loads(Path(info["manifest_location"]).read_text())["files"]
    assert [each["filename"] for each in listed] == ["beside.mp4", "tracks/beside.mkv"]
    tracks = {track.title: track for track in read(kept)}
    assert sorted(tracks) == [f"{who} ({what})" for who in sent for what in ("camera", "microphone")]
    for before in while_growing:
        after = tracks[before.title]
        assert after.packets[: len(before.packets)] == before.packets
    composed_s, kept_s = (int(each["duration"]) / S for each in info["file_results"])
    assert kept_s == pytest.approx(max(ends_s([*tracks.values()])), abs=0.1)
    assert composed_s > paused_s + 1
    for who in sent:
        # Each as it was sent; what is missing in the middle is the pause.
        payloads = [essence(CODECS[who], packet.data) for packet in tracks[f"{who} (camera)"].packets]
        published = [payload for payload, _ in sent[who].pictures]
        found = places(payloads, published, len(published))
        *missing, pause = sorted(after - before - 1 for before, after in pairwise(found))
        assert pause / 30 > 0.9 and sum(missing) <= sent[who].dropped
    onsets = {"composed": beep_onsets(sound(composed))}
    for who in sent:
        onsets[who] = beep_onsets(
            sound(extract(kept, f"{who} (microphone)", kept.with_suffix(f".{who}.mka")))
        )
    end_s = max(onsets["composed"]) + 0.5  # a kill costs the two files unlike moments
    for who in sent:
        heard = [at for at in onsets[who] if at < end_s]
        apart_s = [min(abs(at - other) for other in onsets["composed"]) for at in heard]
        assert len(apart_s) >= 3 and max(apart_s) < APART_S, onsets


async def test_stems_beside_a_composite(parts: Parts) -> None:
    """In step with it, with a cut in the middle, and after a kill."""
    room, service, tones_hz = "stems", parts.service, {"ada": 440, "bob": 660}

    async def begun(name: str, **fields: object) -> str:
        info = await service.call(
            "StartRoomCompositeEgress",
            room_name=room,
            layout=f"single-speaker?stems={name}",
            file_outputs=[{"filepath": f"{room}-{name}.mp4"}],
            **fields,
        )
        await service.active(info["egress_id"])
        return str(info["egress_id"])

    async with (
        Publisher(parts.livekit, room, "ada", None, AudioSpec(tone_hz=440, level=0.1)),
        # Beeps as loud as Ada's may cancel hers out where both are mixed.
        Publisher(parts.livekit, room, "bob", None, AudioSpec(tone_hz=660, level=0.1, beep_level=0.12)),
    ):
        cut = await begun("flac", advanced={"audio_frequency": 48_000})
        killed = await begun("opus", audio_only=True)
        await asyncio.sleep(3.0)
        await service.control("PauseEgress", cut)
        await asyncio.sleep(1.5)
        await service.control("ResumeEgress", cut)
        await asyncio.sleep(3.0)
        os.kill(service.pid_of(killed), signal.SIGKILL)
        infos = [await service.finish(cut), await service.wait(killed)]
    assert [info["status"] for info in infos] == ["EGRESS_COMPLETE", "EGRESS_FAILED"], infos
    for info, form in zip(infos, ("flac", "opus"), strict=True):
        composed = location(info)
        listed = json.loads(Path(info["manifest_location"]).read_text())["files"]
        stems = {who: composed.with_suffix(f".{who}.{form}") for who in tones_hz}
        assert {Path(each["location"]) for each in listed} == {composed, *stems.values()}
        facts = probe(composed).audio
        assert facts is not None and facts.sample_rate == 48_000
        onsets = beep_onsets(sound(composed))
        for who, stem in stems.items():
            facts = probe(stem).audio
            assert facts is not None and (facts.codec, facts.sample_rate) == (form, 48_000)
            assert facts.duration_s == pytest.approx(int(info["file_results"][0]["duration"]) / S, abs=0.03)
            heard = tones(stem, start_s=1.2, end_s=2.8)
            assert {each for each, hz in tones_hz.items() if has_tone(heard, hz)} == {who}
            heard_s = beep_onsets(sound(stem))
            apart_s = [min(abs(at - other) for other in onsets) for at in heard_s]
            assert len(apart_s) >= 3 and max(apart_s) < APART_S, (stem.name, heard_s, onsets)


def track_counters(path: Path, title: str) -> Counters:
    return counters(extract(path, title, path.with_suffix(f".{title[:3]}.mkv")))


async def test_how_tracks_are_sent_leaves_no_trace(parts: Parts) -> None:
    """Redundant sound (RED), several layers (simulcast) and end-to-end encryption, beside who uses none."""
    livekit, room = parts.livekit, "sealed"
    camera = VideoSpec(width=640, height=360, kbps=800, simulcast=True)
    sealed = Publisher(livekit, room, "ada", camera, AudioSpec(red=True, level=0.1), secret=PASSPHRASE)
    async with sealed, person(livekit, room, "bob"):
        egress_id = await started(parts.service, room)
        await asyncio.sleep(5.0)
        info = await parts.service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    tracks = {track.title: track for track in read(path)}
    assert sorted(tracks) == [
        f"{who} ({what})" for who in ("ada", "bob") for what in ("camera", "microphone")
    ]
    for who in ("ada", "bob"):
        seen = track_counters(path, f"{who} (camera)")
        assert seen.in_order and not seen.unreadable and seen.unique > 60, seen
        beeps_late_s(path, f"{who} (microphone)", zero_ns)
    with av.open(str(path)) as container:
        (stream,) = (each for each in container.streams.video if each.metadata["title"] == "ada (camera)")
        *_, last = container.decode(stream)
        assert (last.width, last.height) == (640, 360)
    voice = [packet.at_s for packet in tracks["ada (microphone)"].packets]
    # Each packet once, although each was sent twice.
    assert all(after - before > 0.015 for before, after in pairwise(voice))
    assert len(voice) == pytest.approx((voice[-1] - voice[0]) / 0.02, rel=0.02)


async def test_who_comes_back_with_the_server_goes_on_in_the_same_tracks(parts: Parts) -> None:
    """Last: it kills the server."""
    room, livekit = "restarted", parts.livekit
    async with person(livekit, room, "ada"):
        egress_id = await started(parts.service, room)
        await asyncio.sleep(2.0)
        await livekit.kill()
        await parts.service.logged("connection to room lost")
        # The publisher's SDK hangs when its second try meets a server that is just starting.
        await asyncio.sleep(0.5)
        restarted_s = time.time()
        await livekit.restart()
        await parts.service.logged("connection to room is back", timeout_s=30)
        zero_s = int((await parts.service.info(egress_id))["file_results"][0]["started_at"]) / S
        (growing,) = (parts.service.data / "spool" / egress_id).rglob("recording.mkv")
        async with asyncio.timeout(40):
            while any(zero_s + end_s < restarted_s + 2 for end_s in ends_s(read(growing))):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        info = await parts.service.finish(egress_id)
    tracks = read(location(info))
    assert sorted(track.title for track in tracks) == ["ada (camera)", "ada (microphone)"]
    for track in tracks:
        times = [packet.at_s for packet in track.packets]
        assert times == sorted(times)
        assert times[0] + zero_s < restarted_s < times[-1] + zero_s
    assert not track_counters(location(info), "ada (camera)").unreadable


def check_clip(clip: Info, recording: list[ReadTrack], begin_s: float) -> None:
    """Each track of the recording, cut; what follows the first key frame is what lies there, bit for bit."""
    path = Path(clip["location"])
    of = {each.title: each for each in recording}
    found = read_back(path)
    assert {each.title for each in found} == set(of)
    for track in found:
        whole = [(each.data, each.at_s) for each in of[track.title].packets]
        keys = [n for n, each in enumerate(track.packets) if each.is_key]
        assert keys[0] == 0
        first = 0 if track.kind is MediaKind.AUDIO else keys[1]
        cut = [(each.data, each.at_s + begin_s) for each in track.packets[first:]]
        at = next(n for n, (_, at_s) in enumerate(whole) if abs(at_s - cut[0][1]) < 0.002)
        same = whole[at : at + len(cut)]
        assert [data for data, _ in cut] == [data for data, _ in same]
        assert [at_s for _, at_s in cut] == pytest.approx([at_s for _, at_s in same], abs=0.002)


def read_back(path: Path) -> list[ReadTrack]:
    return read_by_summary(path) if path.suffix == ".mcap" else read(path)


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".mcap"])
async def test_clips_while_it_records_and_after(parts: Parts, ending: str) -> None:
    """Each has an edge and copied pictures: who begins to record has key frames sent."""
    room = f"clips{ending[1:]}"
    async with person(parts.livekit, room, "ada"), person(parts.livekit, room, "bob"):
        egress_id = await started(parts.service, room, ending)
        others = []
        for number in range(2):
            await asyncio.sleep(2)
            others.append(await started(parts.service, room, f"-{number}.mkv"))
        await asyncio.sleep(1)
        last = await parts.service.control("Clip", egress_id, last="2.9s")
        info = await parts.service.finish(egress_id)
        for each in others:
            await parts.service.finish(each)
        later = await parts.service.control(
            "Clip", egress_id, **{"from": "1.2", "to": "4.2", "filepath": f"{room}-later"}
        )
    recording = read_back(location(info))
    for clip in (last, later):
        assert clip["clip"]["filename"].endswith(ending)
        check_clip(clip["clip"], recording, int(clip["from"]) / S)
    assert later["clip"]["filename"] == f"{room}-later{ending}"
