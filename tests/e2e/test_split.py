"""A recording in several files: encoded, as it comes, paused, and killed."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from testkit import hls_rules
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.probe import counters, probe
from testkit.service import POLL_S, Info

pytestmark = pytest.mark.asyncio(loop_scope="module")

FPS = 30
EVERY_S = 10.0
CAMERA = VideoSpec(width=640, height=360, encoded=True)
STEADY = AudioSpec(tone_hz=440, level=0.3)


def files_of(info: Info) -> list[Path]:
    """The parts, which the record and the manifest name alike, and of which each plays."""
    paths = [Path(each["location"]) for each in info["file_results"]]
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    files = [each["location"] for each in manifest["files"] if each["location"].endswith(".mp4")]
    assert files == [str(path) for path in paths]
    for path, result in zip(paths, info["file_results"], strict=True):
        facts = probe(path)
        assert facts.video is not None and facts.audio is not None
        assert facts.video.rising and facts.audio.contiguous
        assert facts.video.start_s < 0.1 and facts.audio.start_s < 0.1
        assert int(result["size"]) == path.stat().st_size
        assert int(result["duration"]) / 1e9 == pytest.approx(facts.duration_s, abs=0.1)
    starts_ns = [int(each["started_at"]) for each in info["file_results"]]
    assert starts_ns == sorted(starts_ns)
    return paths


def chapters(path: Path) -> list[tuple[float, str]]:
    """(where, title), as FFmpeg reads them."""
    with av.open(str(path)) as file:
        found: list[Any] = list(file.chapters())
        return [(float(each["start"] * each["time_base"]), each["metadata"]["title"]) for each in found]


def joined(paths: list[Path]) -> list[int]:
    return [value for path in paths for value in counters(path).values]


def lengths_s(paths: list[Path]) -> list[float]:
    return [facts.video.duration_s for path in paths if (facts := probe(path)).video is not None]


async def test_encoded_parts_follow_each_other_over_a_pause(parts: Parts) -> None:
    """Each is as long as asked for; what was paused is in none."""
    service = parts.service
    async with Publisher(parts.livekit, "split", "ann", CAMERA, STEADY):
        started = await service.call_with(
            f"split_every={EVERY_S:g}s",
            "StartRoomCompositeEgress",
            room_name="split",
            file_outputs=[{"filepath": "split/call.mp4"}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(3.0)
        await service.control("PauseEgress", egress_id)
        await asyncio.sleep(1.5)
        await service.control("ResumeEgress", egress_id)
        await service.call("UpdateLayout", egress_id=egress_id, layout="@marker=After the pause")
        await asyncio.sleep(EVERY_S - 3.0)
        async with asyncio.timeout(10):  # the first part is stored meanwhile
            while not (await service.info(egress_id))["file_results"][0]["location"]:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    paths = files_of(info)
    assert [path.name for path in paths] == [f"call-{n:05d}.mp4" for n in range(1, len(paths) + 1)]
    assert len(paths) == 2
    assert lengths_s(paths[:-1]) == pytest.approx([EVERY_S], abs=1 / FPS)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    (pause,), (marker,) = manifest["pauses"], manifest["markers"]
    # It is where the recording goes on, in the part that has that moment.
    assert marker["position"] / 1e9 == pytest.approx(
        (pause["paused_at"] - manifest["started_at"]) / 1e9, abs=0.3
    )
    assert [title for _, title in chapters(paths[0])] == ["After the pause"]
    assert (paths[0].with_suffix(".chapters.vtt")).read_text().startswith("WEBVTT")
    steps = np.sort(np.diff(joined(paths)))
    paused_s = (pause["resumed_at"] - pause["paused_at"]) / 1e9
    assert (steps[-1] - 1) / FPS == pytest.approx(paused_s, abs=0.05)
    assert steps[0] >= 0 and steps[-2] <= FPS // 2


async def test_tracks_as_they_come_are_split_at_key_frames_that_are_asked_for(parts: Parts) -> None:
    service = parts.service
    camera = VideoSpec(codec="h264", width=640, height=360, encoded=True)
    async with Publisher(parts.livekit, "passed", "ann", camera, STEADY) as ann:
        started = await service.call(
            "StartTrackCompositeEgress",
            room_name="passed",
            audio_track_id=ann.sid("microphone"),
            video_track_id=ann.sid("camera"),
            openegress={"split_every": f"{EVERY_S:g}s"},
            file_outputs=[{"filepath": "passed/{part}.mp4"}],
        )
        await service.active(started["egress_id"])
        await asyncio.sleep(13.0)
        info = await service.finish(started["egress_id"])
        dropped = await ann.dropped()
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert manifest["passthrough"]
    paths = files_of(info)
    assert [path.name for path in paths] == [f"{n:05d}.mp4" for n in range(1, len(paths) + 1)]
    assert len(paths) >= 2
    # A key frame takes its time to be asked for and to come.
    assert all(EVERY_S - 0.1 < each < EVERY_S + 1.5 for each in lengths_s(paths[:-1]))
    found = joined(paths)
    missing = set(range(found[0], found[-1] + 1)) - set(found)
    assert found == sorted(set(found))
    assert len(missing) <= dropped


async def test_a_killed_recording_keeps_its_parts(parts: Parts) -> None:
    service = parts.service
    async with Publisher(parts.livekit, "killed", "ann", CAMERA, STEADY):
        started = await service.call_with(
            f"split_every={EVERY_S:g}s",
            "StartRoomCompositeEgress",
            room_name="killed",
            file_outputs=[{"filepath": "killed/call.mp4"}],
            segment_outputs=[{"filename_prefix": "killed/hls", "segment_duration": 2}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(0.5)
        await service.control("AddMarker", egress_id, name="Hello")
        await asyncio.sleep(13.0)
        await service.control("AddMarker", egress_id, name="Bye", ago="0.3s")
        await asyncio.sleep(0.5)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.wait(started["egress_id"])
    assert info["status"] == "EGRESS_FAILED" and "is kept" in info["error"]
    paths = files_of(info)
    assert len(paths) >= 2
    found = joined(paths)
    assert (found[-1] - found[0]) / FPS > 11.0
    steps = np.diff(found)
    assert steps.min() >= 0 and steps.max() <= FPS // 2
    assert list((service.data / "spool").glob("EG_*")) == []
    titles = [[each[1] for each in chapters(path)] for path in paths]
    assert titles[0] == ["Hello"] and titles[-1] == ["Bye"]
    assert 0.3 < chapters(paths[0])[0][0] < 1.5
    playlist = Path(info["segment_results"][0]["playlist_location"]).read_text()
    assert playlist.count("#EXT-X-DATERANGE:") == 2 and 'X-TITLE="Bye"' in playlist
    hls_rules.check(Path(info["segment_results"][0]["playlist_location"]))
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert [each["name"] for each in manifest["markers"]] == ["Hello", "Bye"]
