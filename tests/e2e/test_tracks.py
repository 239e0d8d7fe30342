"""The layout `tracks`: the whole meeting in one file, as people come and go."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from testkit.livekit_server import LivekitServer
from testkit.matroska_reader import ReadTrack, extract, read
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec, places
from testkit.probe import beep_onsets, sound
from testkit.service import Info, Service, location

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

CODECS: dict[str, Codec] = {"ada": "vp8", "bob": "h264", "eve": "vp9"}
BOTH_S, ALL_S, ALONE_S = 3.0, 3.0, 2.0
"""Ada and Bob; with Eve; Ada and Eve after Bob has left."""
APART_S = 0.02
LATE_S = 0.06
"""Of one picture against the moment it was due: a publisher may be late itself."""


@dataclass(frozen=True, slots=True)
class TrackParts:
    livekit: LivekitServer
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TrackParts]:
    async with LivekitServer() as livekit, Service(tmp_path_factory.mktemp("tracks"), livekit) as service:
        yield TrackParts(livekit, service)


def person(livekit: LivekitServer, room: str, name: str) -> Publisher:
    camera = VideoSpec(CODECS[name], width=320, height=180, kbps=300, encoded=True)
    return Publisher(livekit, room, name, camera, AudioSpec(level=0.1))


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


async def sent_by(who: Publisher) -> Sent:
    dropped = await who.dropped()
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


async def test_a_meeting(parts: TrackParts) -> None:
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


async def test_a_kill_keeps_all_but_the_last_moment(parts: TrackParts) -> None:
    """What was recorded plays before the recovery has touched it, and is whole after it."""
    room, service = "killed", parts.service
    async with person(parts.livekit, room, "ada"), person(parts.livekit, room, "bob"):
        egress_id = await started(service, room)
        await asyncio.sleep(4)
        (growing,) = (service.data / "spool" / egress_id).rglob("recording.mkv")
        while_growing = read(growing)
        os.kill(service.pid_of(egress_id), signal.SIGKILL)
        killed_s = time.time()
        info: Info = await service.wait(egress_id)
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    tracks = read(path)
    assert len(tracks) == len(while_growing) == 4
    assert all(killed_s - (zero_ns / S + end_s) < 2 for end_s in ends_s(tracks)), ends_s(tracks)
    assert all(end_s > 2 for end_s in ends_s(while_growing))
    for before, after in zip(while_growing, tracks, strict=True):
        assert after.packets[: len(before.packets)] == before.packets


async def test_sound_alone(parts: TrackParts) -> None:
    async with person(parts.livekit, "voices", "ada"):
        egress_id = await started(parts.service, "voices", ".mka")
        await asyncio.sleep(1.5)
        info = await parts.service.finish(egress_id)
    assert "no picture is recorded" in info["details"]
    (track,) = read(location(info))
    assert (track.kind, track.codec, track.title) == (MediaKind.AUDIO, "opus", "ada (microphone)")
