"""A recording whose process is killed goes on as the same egress, in one file."""

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8
import numpy as np
import pytest

from testkit import hls_rules
from testkit.livekit_server import LivekitServer
from testkit.mcap_reader import read_by_summary
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.probe import counters, has_tone, probe, tones, tones_of
from testkit.service import Info, Service, location
from testkit.stream_servers import RtmpServer, SrtListener
from testkit.websocket_receiver import WebsocketReceiver

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
SMALL = {"width": 320, "height": 180, "framerate": FPS, "video_bitrate": 400, "key_frame_interval": 1}


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


async def test_a_handler_that_is_killed_twice_is_followed_by_another(parts: Parts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "twice", "ann", CAMERA, STEADY):
        egress_id = await start(service, "twice")
        for text in ("died (", "died 2 times ("):
            await asyncio.sleep(KEPT_S)
            os.kill(service.handler_pid(), signal.SIGKILL)
            await resumed(service, egress_id, text)
        await asyncio.sleep(KEPT_S)
        made = await service.control("Clip", egress_id, last="1s")
        info = await service.finish(egress_id)
    check(info, 2)
    (file,), from_ns = info["file_results"], int(made["from"])
    gaps = [each for each in manifest_of(info)["restarts"] if each["position"] <= from_ns]
    missing_ns = sum(each["resumed_at"] - each["lost_at"] for each in gaps)
    at_ns = int(file["started_at"]) + from_ns + missing_ns
    assert int(made["clip"]["started_at"]) == at_ns, "a clip is of the time that it shows"


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


async def test_one_that_is_stopped_before_another_took_over_is_complete(parts: Parts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "stopped", "ann", CAMERA, STEADY):
        egress_id = await start(service, "stopped")
        await asyncio.sleep(KEPT_S)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert probe(location(info)).duration_s > KEPT_S - MAY_BE_LOST_S


async def test_segments_and_images_go_on_in_the_same_playlists(parts: Parts) -> None:
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


async def test_tracks_go_on_as_they_come(parts: Parts) -> None:
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


async def test_streams_are_dialled_again(parts: Parts) -> None:
    """That of the request, and one that was added; one that had failed stays so. The file beside them goes on
    too."""
    service = parts.service
    with RtmpServer() as server:
        urls = [server.rtmp_url("denied/1"), server.rtmp_url("live/2"), server.rtmp_url("live/3")]
        async with Publisher(parts.livekit, "streams", "ann", CAMERA, STEADY):
            egress_id = await start(
                service,
                "streams",
                advanced=SMALL,
                file_outputs=[{"filepath": "streams.mp4"}],
                stream_outputs=[{"protocol": "RTMP", "urls": urls[:2]}],
            )
            await service.call("UpdateStream", egress_id=egress_id, add_output_urls=urls[2:])
            before = await streams_are(service, egress_id, "FAILED", "ACTIVE", "ACTIVE")
            await asyncio.sleep(KEPT_S)
            os.kill(service.handler_pid(), signal.SIGKILL)
            await resumed(service, egress_id, "died (")
            async with asyncio.timeout(20):
                while len(server.recordings()) < 4:  # noqa: ASYNC110 - a folder tells nobody
                    await asyncio.sleep(0.05)
            await streams_are(service, egress_id, "FAILED", "ACTIVE", "ACTIVE")
            await asyncio.sleep(KEPT_S)
            info = await service.finish(egress_id)
        after = info["stream_results"]
        assert [each["status"] for each in after] == ["FAILED", "FINISHED", "FINISHED"]
        for old, new in zip(before, after, strict=True):
            assert old["started_at"] == new["started_at"]
        assert (after[0]["error"], after[0]["ended_at"]) == (before[0]["error"], before[0]["ended_at"])
        check(info, 1)
        (gap_s,) = gaps_s(info)
        for each in after[1:]:
            lasted_s = (int(each["ended_at"]) - int(each["started_at"])) / 1e9
            assert int(each["duration"]) / 1e9 == pytest.approx(lasted_s - gap_s, abs=HELD_S)
        *_, last = server.recordings()
        again = counters(last)
        assert again.in_order and has_tone(tones(last, start_s=0.5, end_s=1.5), 440)
        assert set(again.values) <= set(counters(location(info)).values)


async def streams_are(service: Service, egress_id: str, *statuses: str) -> list[Info]:
    """The results once each is so, and what is active has begun."""
    async with asyncio.timeout(20):
        while True:
            found: list[Info] = (await service.info(egress_id))["stream_results"]
            begun = all(each["status"] != "ACTIVE" or int(each["started_at"]) for each in found)
            if begun and [each["status"] for each in found] == list(statuses):
                return found
            await asyncio.sleep(0.02)


async def test_an_srt_stream_is_dialled_until_its_server_has_given_up_the_dead_caller(parts: Parts) -> None:
    """The caller has not said that it goes, so the server holds its place for some seconds, and takes no
    other one meanwhile."""
    service = parts.service
    with SrtListener() as server:
        url = f"srt://127.0.0.1:{server.port}?streamid=a-long-key"
        async with Publisher(parts.livekit, "srt", "ann", CAMERA, STEADY):
            sent = [{"protocol": "SRT", "urls": [url]}]
            egress_id = await start(service, "srt", advanced=SMALL, stream_outputs=sent)
            (before,) = await streams_are(service, egress_id, "ACTIVE")
            await asyncio.sleep(KEPT_S)
            os.kill(service.handler_pid(), signal.SIGKILL)
            await resumed(service, egress_id, "died (")
            await asyncio.to_thread(server.wait)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(20):
                path = server.recordings[-1]
                while not path.exists() or not path.stat().st_size:  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.02)
            await asyncio.sleep(KEPT_S)
            info = await service.finish(egress_id)
            await asyncio.to_thread(server.wait)
        (after,) = info["stream_results"]
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert (after["status"], after["started_at"]) == ("FINISHED", before["started_at"])
        old, new = server.recordings
        assert counters(old).in_order and counters(new).in_order
        assert counters(new).values[0] > counters(old).values[-1]
        assert has_tone(tones(new, start_s=0.5, end_s=1.5), 440)


async def test_a_websocket_hears_of_the_gap(parts: Parts) -> None:
    service = parts.service
    async with (
        WebsocketReceiver() as receiver,
        Publisher(parts.livekit, "socket", "ann", None, STEADY) as ann,
    ):
        info = await service.call_with(
            "resume=true",
            "StartTrackEgress",
            room_name="socket",
            track_id=ann.sid("microphone"),
            websocket_url=f"ws://127.0.0.1:{receiver.port}/in?rate=16000&channels=1",
        )
        egress_id = str(info["egress_id"])
        await service.active(egress_id)
        await receiver.has(sound_bytes=64_000)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await resumed(service, egress_id, "died (")
        await receiver.has(sound_bytes=len(receiver.sound) + 64_000, texts=1)
        began = (info["stream_results"][0])["started_at"]
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    ((at, text),) = receiver.texts
    assert isinstance(text, dict)
    assert f"({text['gap_ms'] / 1000:.1f} s are missing)" in info["details"]
    wave = np.frombuffer(receiver.sound, "<i2").astype(np.float32) / np.float32(32768)
    for heard in (wave[at // 2 - 12_000 : at // 2 - 800], wave[at // 2 + 1600 : at // 2 + 12_800]):
        assert has_tone(tones_of(heard, 16_000), 440)
    (stream,) = info["stream_results"]
    assert (stream["status"], stream["started_at"]) == ("FINISHED", began)
    assert int(stream["duration"]) / 1e9 == pytest.approx(len(receiver.sound) / 32_000, abs=1.5)


async def test_streams_and_parts_outlive_their_service(tmp_path: Path) -> None:
    """All of it is killed, and then a handler of each."""
    with RtmpServer() as server:
        async with (
            LivekitServer() as livekit,
            Service(tmp_path, livekit) as service,
            Publisher(livekit, "parts", "ann", CAMERA, STEADY),
        ):
            sent = [{"protocol": "RTMP", "urls": [server.rtmp_url("live/1")]}]
            file = [{"filepath": "parts.webm"}]
            ids = [
                await start(service, "parts", advanced=SMALL, stream_outputs=sent),
                await start(service, "parts", advanced=SMALL, file_outputs=file),
            ]
            (before,) = await streams_are(service, ids[0], "ACTIVE")
            await asyncio.sleep(KEPT_S)
            await service.kill_all()
            await service.start()
            for egress_id in ids:
                await resumed(service, egress_id, "died (")
            await asyncio.sleep(KEPT_S)
            for egress_id in ids:
                os.kill(service.pid_of(egress_id), signal.SIGKILL)
            for egress_id in ids:
                await resumed(service, egress_id, "died 2 times (")
            await asyncio.sleep(KEPT_S)
            streamed, stored = [await service.finish(egress_id) for egress_id in ids]
        for info in (streamed, stored):
            assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        (after,) = streamed["stream_results"]
        assert (after["status"], after["started_at"]) == ("FINISHED", before["started_at"])
        read = [counters(path) for path in server.recordings()]
        assert len(read) == 3 and all(each.in_order for each in read)
        names = ["parts.webm", "parts-00002.webm", "parts-00003.webm"]
        assert [each["filename"] for each in stored["file_results"]] == names
        found = [counters(each["location"]) for each in stored["file_results"]]
        for one, other, gap_s in zip(found, found[1:], gaps_s(stored), strict=False):
            assert gap_s - JUMP_S < (other.values[0] - one.values[-1]) / FPS < gap_s + HELD_S


@dataclass(frozen=True, slots=True)
class Wish:
    """A recording that goes on in another file."""

    method: str
    names: tuple[str, ...]
    request: dict[str, Any]
    options: str = ""


def of_room(path: str, *, options: str = "", file_type: str = "DEFAULT_FILETYPE", **request: Any) -> Wish:
    """Its parts are called as told by the path, in which {} is the number."""
    asked = {"file_outputs": [{"filepath": path.format(""), "file_type": file_type}], **request}
    first = "-00001" if "split_every" in options else ""
    return Wish("StartRoomCompositeEgress", (path.format(first), path.format("-00002")), asked, f"&{options}")


def of_track(path: str, track_id: str) -> Wish:
    asked = {"track_id": track_id, "file": {"filepath": path.format("")}}
    return Wish("StartTrackEgress", (path.format(""), path.format("-00002")), asked)


async def recorded_over_a_kill(service: Service, room: str, wishes: list[Wish]) -> list[Info]:
    """All at once, of which each process is killed once."""
    return [
        await service.finish(egress_id) for egress_id in await recording_over_a_kill(service, room, wishes)
    ]


async def recording_over_a_kill(service: Service, room: str, wishes: list[Wish]) -> list[str]:
    """Their ids, while they record in another file."""
    ids = []
    for wish in wishes:
        options = f"resume=true{wish.options}"
        info = await service.call_with(options, wish.method, room_name=room, **wish.request)
        ids.append(str(info["egress_id"]))
    for egress_id in ids:
        await service.active(egress_id)
    await asyncio.sleep(KEPT_S)
    for egress_id in ids:
        os.kill(service.pid_of(egress_id), signal.SIGKILL)
    for egress_id in ids:
        await resumed(service, egress_id, "died (")
    await asyncio.sleep(KEPT_S)
    return ids


def check_parts(info: Info, names: tuple[str, ...]) -> None:
    """Two files, each whole by itself, between which what the manifest tells is missing and nothing else."""
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    results, manifest, (gap_s,) = info["file_results"], manifest_of(info), gaps_s(info)
    assert tuple(each["filename"] for each in results) == names
    paths = [Path(each["location"]) for each in results]
    assert [Path(each["location"]) for each in manifest["files"]] == paths
    (restart,) = manifest["restarts"]
    assert int(results[1]["started_at"]) == restart["resumed_at"]
    first, second = [probe(path) for path in paths]
    assert first.duration_s == pytest.approx(restart["position"] / 1e9, abs=JUMP_S)
    assert second.duration_s > KEPT_S - 0.5
    if first.audio is not None:
        assert second.audio is not None and second.audio.start_s < JUMP_S
        for path, facts in zip(paths, (first, second), strict=True):
            assert facts.audio is not None and sum(length for _, length in facts.audio.gaps) < 0.05
            assert has_tone(tones(path, start_s=0.5, end_s=facts.audio.duration_s - 0.1), 440)
    if first.video is not None:
        # Where each track is for itself, sound does not wait for a key frame.
        assert second.video is not None and second.video.start_s < HELD_S
        before, after = [counters(path) for path in paths]
        assert before.in_order and after.in_order
        assert gap_s - JUMP_S < (after.values[0] - before.values[-1]) / FPS < gap_s + HELD_S


async def test_what_no_file_goes_on_with_goes_on_in_another(parts: Parts) -> None:
    wishes = [
        of_room("split{}.mp4", options="split_every=10s", advanced=SMALL),
        of_room("film{}.webm", advanced=SMALL),
        of_room("sound{}.ogg", audio_only=True, file_type="OGG"),
        of_room("sound{}.mp3", audio_only=True, file_type="MP3"),
    ]
    async with Publisher(parts.livekit, "parts", "ann", CAMERA, STEADY):
        infos = await recorded_over_a_kill(parts.service, "parts", wishes)
    for info, wish in zip(infos, wishes, strict=True):
        check_parts(info, wish.names)


async def test_tracks_as_they_come_go_on_in_another_file(parts: Parts) -> None:
    camera = VideoSpec("vp8", width=320, height=180, kbps=400, encoded=True)
    async with Publisher(parts.livekit, "as-it-comes", "ann", camera, STEADY) as ann:
        wishes = [
            of_track("camera{}.webm", ann.sid("camera")),
            of_track("microphone{}.ogg", ann.sid("microphone")),
            of_room("all{}.mkv", layout="tracks"),
            of_room("all{}.mp4", layout="tracks"),
            of_room("all{}.mcap", layout="tracks"),
            of_room("film{}.mp4", options="tracks_file=beside.mkv", advanced=SMALL),
        ]
        *infos, of_messages, beside = await recorded_over_a_kill(parts.service, "as-it-comes", wishes)
    for info, wish in zip(infos, wishes, strict=False):
        check_parts(info, wish.names)
    check_messages(of_messages)
    film, *kept = beside["file_results"]
    assert [each["filename"] for each in kept] == ["beside.mkv", "beside-00002.mkv"]
    check({**beside, "file_results": [film]}, 1)
    first, second = [counters(each["location"]) for each in kept]
    assert first.in_order and second.in_order
    (gap_s,) = gaps_s(beside)
    assert gap_s - JUMP_S < (second.values[0] - first.values[-1]) / FPS < gap_s + HELD_S


async def test_a_clip_lies_in_both_files(parts: Parts) -> None:
    """While the second one grows, and when both are stored."""
    service = parts.service
    wishes = [of_room(f"across{{}}.{ending}", layout="tracks") for ending in ("mkv", "mp4", "mcap")]
    wishes.append(of_room("across{}.webm", advanced=SMALL))
    camera = VideoSpec("vp8", width=320, height=180, kbps=400, encoded=True)
    async with Publisher(parts.livekit, "across", "ann", camera, STEADY):
        for egress_id in await recording_over_a_kill(service, "across", wishes):
            async with asyncio.timeout(20):
                while not (first := (await service.info(egress_id))["file_results"][0])["location"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            at_s = int(first["duration"]) / 1e9
            span = {"from": f"{at_s - 1.5:.3f}", "to": f"{at_s + 1.5:.3f}"}
            running = await service.control("Clip", egress_id, **span)
            info = await service.finish(egress_id)
            later = await service.control("Clip", egress_id, **span, filepath=f"later-{egress_id}")
            for clip in (running, later):
                check_clip(clip, info, manifest_of(info)["restarts"][0])


def check_clip(clip: Info, info: Info, restart: dict[str, Any]) -> None:
    """What either file has of the span; between them lacks what the recording lacks."""
    (gap_s,), path = gaps_s(info), Path(clip["clip"]["location"])
    begin_s, length_s = int(clip["from"]) / 1e9, (int(clip["to"]) - int(clip["from"])) / 1e9
    assert begin_s < restart["position"] / 1e9 < begin_s + length_s
    started_at = int(info["file_results"][0]["started_at"])
    assert int(clip["clip"]["started_at"]) == started_at + int(clip["from"])
    if path.suffix == ".mcap":
        voice, pictures = sorted(read_by_summary(path), key=lambda track: track.kind.value)
        assert len(voice.packets) == pytest.approx(length_s * 50, abs=10)
        assert pictures.packets[0].at_s < 0.1 and pictures.packets[-1].at_s > length_s - 0.2
        return
    facts, found = probe(path), counters(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.duration_s == pytest.approx(length_s, abs=JUMP_S)
    # Sound is read five times a second: a kill may cost it a fifth of a second more than the picture.
    assert sum(length for _, length in facts.audio.gaps) < 0.25
    assert not found.unreadable and found.in_order and told_jump(found.values, gap_s)


def check_messages(info: Info) -> None:
    (restart,) = manifest_of(info)["restarts"]
    first, second = [read_by_summary(Path(each["location"])) for each in info["file_results"]]
    assert len(first) == len(second) == 2
    assert max(track.packets[-1].at_s for track in first) == pytest.approx(
        restart["position"] / 1e9, abs=JUMP_S
    )
    for track in second:
        assert track.packets[0].at_s < HELD_S and track.packets[-1].at_s > KEPT_S - 0.5
