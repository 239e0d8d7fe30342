"""Clips of what records and of what has ended: the pictures that were asked for, sound in step, and a
recording that nothing is missing from."""

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import av_offset, counters, luma_of, probe
from testkit.servers import S3Server
from testkit.service import Info, Refused, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

FPS = 30
CAMERA = VideoSpec("h264", width=640, height=360, encoded=True)
STEADY = AudioSpec(tone_hz=440, level=0.05, beep_level=0.5)
SEGMENTS = {"filename_prefix": "hls/seg", "segment_duration": 2, "protocol": "HLS_FMP4_PROTOCOL"}
RECORDED_S = 7.0
AV_MS = 40


@dataclass(frozen=True, slots=True)
class ClipParts:
    livekit: LivekitServer
    s3: S3Server


@pytest.fixture(scope="module")
def parts(livekit: LivekitServer, s3: S3Server) -> ClipParts:
    return ClipParts(livekit, s3)


def access(s3: S3Server, bucket: str) -> dict[str, Any]:
    return {
        "access_key": s3.access_key,
        "secret": s3.secret,
        "region": s3.region,
        "endpoint": s3.url,
        "bucket": bucket,
    }


async def start(service: Service, ann: Publisher, room: str, **outputs: Any) -> str:
    """Of what she sends as it comes: however busy the machine is, each picture is recorded."""
    started = await service.call(
        "StartTrackCompositeEgress",
        room_name=room,
        audio_track_id=ann.sid("microphone"),
        video_track_id=ann.sid("camera"),
        **outputs,
    )
    await service.active(started["egress_id"])
    return str(started["egress_id"])


def span_s(clip: Info) -> tuple[float, float]:
    return int(clip["from"]) / 1e9, int(clip["to"]) / 1e9


def check(path: Path, span: tuple[float, float], recording: Path, *, is_open: bool = False) -> None:
    """The very pictures of the recording, from the one on show at the start to the last before the end."""
    begin_s, end_s = span
    recorded = counters(recording).read
    # Segments are a second late, and a player begins with their first picture.
    late_s = recorded[0][0] if recording.suffix == ".m3u8" else 0.0
    recorded = tuple((at - late_s, n) for at, n in recorded)
    shown = [each for each in recorded if each[0] <= begin_s + 0.001][-1:]
    expected = [n for _, n in shown] + [n for at, n in recorded if begin_s + 0.001 < at < end_s - 0.0001]
    found = counters(path)
    values = [n for _, n in found.read]
    # How long the last picture on the disk is shown only the next one tells, which may come early.
    assert values == expected or (is_open and values == expected[:-1])
    assert found.unreadable == 0
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.rising
    assert facts.video.start_s == pytest.approx(0.0, abs=0.001)
    assert facts.duration_s == pytest.approx(end_s - begin_s, abs=0.03)
    assert facts.audio.contiguous
    assert facts.audio.start_s == pytest.approx(0.0, abs=0.001)
    assert facts.audio.duration_s == pytest.approx(end_s - begin_s, abs=0.03)


def check_step(path: Path, begin_s: float, recording: Path) -> None:
    """Sound is where it is in the recording."""
    late_s = counters(recording).read[0][0] if recording.suffix == ".m3u8" else 0.0
    before, after = dict(av_offset(recording).samples), av_offset(path).samples
    for at, offset_ms in after:
        nearest = min(before, key=lambda flash: abs(flash - late_s - begin_s - at))
        assert offset_ms == pytest.approx(before[nearest], abs=3)
        assert abs(offset_ms) < AV_MS


async def refusal(service: Service, egress_id: str, **span: str) -> str:
    with pytest.raises(Refused) as refused:
        await service.control("Clip", egress_id, **span)
    return f"{refused.value.code}: {refused.value.message}"


async def test_clips_while_it_records_and_after_its_end(parts: ClipParts, tmp_path: Path) -> None:
    """Of a file and of segments, several at once."""
    async with (
        Service(tmp_path, parts.livekit) as service,
        Publisher(parts.livekit, "clips", "ann", CAMERA, STEADY) as ann,
    ):
        egress_id = await start(service, ann, "clips", file_outputs=[{"filepath": "whole.mp4"}])
        hls_id = await start(service, ann, "clips", segment_outputs=[SEGMENTS])
        await asyncio.sleep(RECORDED_S)
        last, within, of_segments = await asyncio.gather(
            service.control("Clip", egress_id, last="2.5s"),
            service.control("Clip", egress_id, **{"from": "1.1", "to": "4.7", "filepath": "{from}/mine"}),
            service.control("Clip", hls_id, **{"from": "0.7", "to": "3.2", "filepath": "of-hls"}),
        )
        assert "beyond the end" in await refusal(service, egress_id, to="1:00:00")
        assert "before the start" in await refusal(service, egress_id, last="30m")
        assert "already_exists" in await refusal(
            service, egress_id, **{"from": "1", "to": "2", "filepath": "of-hls.mp4"}
        )
        assert "already_exists" in await refusal(service, egress_id, last="1s", filepath="whole.mp4")
        info = await service.finish(egress_id)
        sent, dropped = ann.sent_ns(), await ann.dropped()
        hls = await service.finish(hls_id)
        later = await service.control(
            "Clip", egress_id, **{"from": "2.3", "to": "0:05", "filepath": "later/"}
        )
        of_list = await service.control("Clip", hls_id, last="3.3s", filepath="of-list.mp4")
    assert (info["status"], info["error"], hls["error"]) == ("EGRESS_COMPLETE", "", "")
    whole = location(info)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert [each["location"] for each in manifest["files"]] == [str(whole)]
    assert {each["filename"] for each in manifest["clips"]} == {
        each["clip"]["filename"] for each in (last, within)
    }
    assert last["clip"]["filename"] in info["details"]
    for clip in (last, within, later):
        check(Path(clip["clip"]["location"]), span_s(clip), whole, is_open=clip is last)
        check_step(Path(clip["clip"]["location"]), span_s(clip)[0], whole)
    assert span_s(last)[1] - span_s(last)[0] == pytest.approx(2.5, abs=0.001)
    assert span_s(within) == (1.1, 4.7)
    assert within["clip"]["location"].endswith("00-00-01.100/mine.mp4")
    assert len(counters(whole).missing_of(sent)) <= dropped
    playlist = Path(hls["segment_results"][0]["playlist_location"])
    for clip in (of_segments, of_list):
        check(Path(clip["clip"]["location"]), span_s(clip), playlist)
        check_step(Path(clip["clip"]["location"]), span_s(clip)[0], playlist)


async def test_clips_from_a_storage(parts: ClipParts, tmp_path: Path) -> None:
    """Of files that are only there: with the service's own credentials, and with those of a request while it
    records."""
    folder = tmp_path.name  # of this try: no clip is stored over another
    config = {"storage": {"prefix": folder, "s3": access(parts.s3, "server")}}
    request = {"filepath": "theirs.mp4", "s3": access(parts.s3, "request")}
    async with (
        Service(tmp_path, parts.livekit, config) as service,
        Publisher(parts.livekit, "stored", "ann", CAMERA, STEADY) as ann,
    ):
        own_id = await start(service, ann, "stored", file_outputs=[{"filepath": "own.mp4"}])
        their_id = await start(service, ann, "stored", file_outputs=[request])
        await asyncio.sleep(5.0)
        of_theirs = await service.control("Clip", their_id, **{"from": "0.4", "to": "2.6"})
        own, theirs = await service.finish(own_id), await service.finish(their_id)
        assert (own["error"], theirs["error"]) == ("", "")
        of_own = await service.control("Clip", own_id, **{"from": "1.7", "to": "4.2"})
        why = await refusal(service, their_id, **{"from": "0.4", "to": "2.6", "filepath": "again"})
        assert why.startswith("failed_precondition: ") and "credentials of its own request" in why
    assert of_theirs["clip"]["filename"] == "theirs-clip-00-00-00.400-00-00-02.600.mp4"
    for clip, bucket, prefix, whole in (
        (of_own, "server", f"{folder}/", f"{folder}/own.mp4"),
        (of_theirs, "request", f"{folder}/", f"{folder}/theirs.mp4"),
    ):
        paths: list[Path] = []
        for key in (prefix + clip["clip"]["filename"], whole):
            paths.append(tmp_path / f"{bucket}-{len(paths)}.mp4")
            body = await asyncio.to_thread(parts.s3.client().get_object, Bucket=bucket, Key=key)
            paths[-1].write_bytes(body["Body"].read())
        check(paths[0], span_s(clip), paths[1])


async def test_a_storyboard_of_a_room(parts: ClipParts, tmp_path: Path) -> None:
    """Also of a recording that was killed: what the index names is there."""
    async with (
        Service(tmp_path, parts.livekit) as service,
        Publisher(parts.livekit, "board", "ann", CAMERA, None),
    ):
        request = {"room_name": "board", "file_outputs": [{"filepath": "board.mp4"}], "video_only": True}
        started = await service.call_with("storyboard=1s", "StartRoomCompositeEgress", **request)
        egress_id = started["egress_id"]
        await service.active(egress_id)
        index = service.data / "spool" / egress_id / "images-1" / "storyboard.vtt"
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(lambda: index.exists() and index.read_text().count("xywh") > 2):
                await asyncio.to_thread(time.sleep, 0.1)
        os.kill(service.pid_of(egress_id), signal.SIGKILL)
        info = await service.wait(egress_id, "EGRESS_FAILED")
    assert info["image_results"][0]["filename_prefix"] == "board-storyboard"
    assert info["image_results"][0]["image_count"] == "1"
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    assert [each["filename"] for each in manifest["images"]] == ["board-storyboard_00000.jpeg"]
    text = (service.out / "board-storyboard.vtt").read_text()
    assert text.count("board-storyboard_00000.jpeg#xywh=") > 2
    with av.open(str(service.out / "board-storyboard_00000.jpeg")) as sheet:
        picture = next(sheet.decode(video=0))
    assert (picture.width, picture.height) == (1600, 90)
    tile = luma_of(picture)[:, 160:320]
    assert 30 < tile.mean() < 200
