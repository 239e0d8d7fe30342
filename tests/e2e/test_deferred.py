"""Rooms that are recorded as tracks and composed afterwards: the same film as a live recording, for less."""

import asyncio
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.pattern import COLOURS, read_counter
from testkit.probe import Rect, av_offset, counters, crop, frames, has_tone, luma_of, probe, tones
from testkit.service import Info, Service, location
from testkit.ssim import ssim

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

LEFT, RIGHT = Rect(8, 8, 628, 704), Rect(644, 8, 628, 704)
CORNER = Rect(0, 0, 6, 6)
"""Between the tiles."""
RECORDED_S = 6.0
PAUSED_S = 2.0
IN_STEP_MS = 40
FPS = 10
"""Few enough that no two come in one slot, however late a publisher is."""
MAY_BE_LOST_S = 2.0
"""What a kill may cost."""


def camera(number: int) -> VideoSpec:
    return VideoSpec(width=320, height=360, fps=FPS, kbps=400, colour=COLOURS[number], encoded=True)


async def composed(service: Service, egress_id: str) -> tuple[Info, set[str]]:
    """Its record in the end, and what its details said while it was composed."""
    said = set()
    async with asyncio.timeout(90):
        while (info := await service.info(egress_id))["status"] in ("EGRESS_ACTIVE", "EGRESS_ENDING"):
            said.add(info["details"])
            await asyncio.sleep(0.02)
    return info, said


def tiles(film: Path, rect: Rect) -> dict[int, NDArray[np.uint8]]:
    """What a tile shows, by the publisher's counter."""
    shown: dict[int, NDArray[np.uint8]] = {}
    for _, frame in frames(film):
        picture = crop(luma_of(frame), rect)
        if (number := read_counter(picture)) is not None:
            shown.setdefault(number, picture)
    return shown


async def check_complete(film: Path, publisher: Publisher, tile: Rect) -> None:
    """No picture that was sent between the first and the last is missing."""
    read = counters(film, tile)
    assert read.in_order
    assert len(read.missing_of(publisher.sent_ns())) <= await publisher.dropped()


async def test_the_same_film_as_live(parts: Parts) -> None:
    ann = await parts.join("both", "ann", camera(0), AudioSpec(tone_hz=440))
    ben = await parts.join("both", "ben", camera(1), AudioSpec(tone_hz=660, beep_level=0.0))
    live = await parts.start(room_name="both", layout="grid", file_outputs=[{"filepath": "live.mp4"}])
    deferred = await parts.start(
        room_name="both",
        layout="grid?render=deferred&sidecars=events&stems=flac&loudness=-16",
        file_outputs=[{"filepath": "deferred.mp4"}],
        segment_outputs=[{"filename_prefix": "deferred", "segment_duration": 2}],
        image_outputs=[{"filename_prefix": "deferred", "capture_interval": 2}],
    )
    await asyncio.sleep(RECORDED_S)
    stopped = await parts.service.call("StopEgress", egress_id=deferred)
    assert stopped["status"] == "EGRESS_ENDING"
    other = await parts.service.finish(live)
    info, said = await composed(parts.service, deferred)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    assert info["details"] == "End reason: StopEgress API"
    assert any("Composing: " in each for each in said), said
    film = location(info)
    facts = probe(film)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.longest_gap_s < 1.5 / 30 and facts.audio.contiguous
    assert facts.duration_s == pytest.approx(int(info["file_results"][0]["duration"]) / 1e9, abs=0.1)
    for publisher, tile in ((ann, LEFT), (ben, RIGHT)):
        await check_complete(film, publisher, tile)
        ours, theirs = tiles(film, tile), tiles(location(other), tile)
        both = sorted(ours.keys() & theirs.keys())
        assert len(both) > 10
        assert min(ssim(ours[number], theirs[number]) for number in both) > 0.98
    assert abs(av_offset(film, LEFT).median_ms) < IN_STEP_MS
    (segments,) = info["segment_results"]
    assert int(segments["segment_count"]) == pytest.approx(RECORDED_S / 2, abs=1)
    assert int(info["image_results"][0]["image_count"]) == pytest.approx(RECORDED_S / 2, abs=1)
    for who, hz in (("ann", 440), ("ben", 660)):
        stem = film.with_suffix(f".{who}.flac")
        assert probe(stem).duration_s == pytest.approx(facts.duration_s, abs=0.05)
        assert has_tone(tones(stem, start_s=2.0, end_s=4.0), hz)
    lines = [json.loads(line) for line in film.with_suffix(".events.jsonl").read_text().splitlines()]
    assert {"recording_started", "recording_ended", "track_published"} <= {line["event"] for line in lines}
    assert not list((parts.service.data / "spool").glob("EG_*"))


async def test_a_pause_is_left_out_of_the_film(parts: Parts) -> None:
    """As of a live recording, whose playlist and manifest tell of it."""
    wide = VideoSpec(width=320, height=180, fps=FPS, encoded=True)
    ann = await parts.join("paused", "ann", wide, AudioSpec(tone_hz=440))
    egress_id = await parts.start(
        room_name="paused",
        layout="grid?render=deferred",
        file_outputs=[{"filepath": "paused.mp4"}],
        segment_outputs=[{"filename_prefix": "paused", "segment_duration": 2}],
    )
    await asyncio.sleep(RECORDED_S / 2)
    await parts.service.control("PauseEgress", egress_id)
    await asyncio.sleep(PAUSED_S)
    await parts.service.control("ResumeEgress", egress_id)
    await asyncio.sleep(RECORDED_S / 2)
    await parts.service.call("StopEgress", egress_id=egress_id)
    info, _ = await composed(parts.service, egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    film, manifest = location(info), json.loads(Path(info["manifest_location"]).read_text())
    (pause,) = manifest["pauses"]
    paused_s = (pause["resumed_at"] - pause["paused_at"]) / 1e9
    seen = counters(film, Rect(0, 0, 1280, 720))
    assert seen.in_order
    steps = np.diff(seen.values)
    assert paused_s - 0.3 < steps.max() / FPS < paused_s + 0.8
    sent_s = (seen.values[-1] - seen.values[0]) / FPS
    assert probe(film).duration_s == pytest.approx(sent_s - steps.max() / FPS, abs=0.5)
    missing = [n for n in seen.missing_of(ann.sent_ns()) if n < seen.values[int(steps.argmax())]]
    assert len(missing) <= await ann.dropped()
    playlist = Path(info["segment_results"][0]["playlist_location"]).read_text()
    assert playlist.count("#EXT-X-DISCONTINUITY\n") == 1


async def test_nothing_is_lost_of_what_dies(tmp_path: Path) -> None:
    async with (
        LivekitServer() as livekit,
        Publisher(livekit, "calls", "ann", VideoSpec(width=320, height=180, fps=FPS, encoded=True)) as ann,
        Service(tmp_path, livekit) as service,
    ):

        async def begun(name: str) -> str:
            info = await service.call(
                "StartRoomCompositeEgress",
                room_name="calls",
                layout="grid?render=deferred",
                file_outputs=[{"filepath": f"{name}.mp4"}],
            )
            await service.active(info["egress_id"])
            await asyncio.sleep(RECORDED_S / 2)
            return str(info["egress_id"])

        async def composes(egress_id: str) -> None:
            await service.call("StopEgress", egress_id=egress_id)
            info = await service.info(egress_id)
            while "Composing: " not in info["details"]:
                assert info["status"] in ("EGRESS_ACTIVE", "EGRESS_ENDING"), info
                info = await service.info(egress_id)

        async def check(info: Info, status: str, least_s: float) -> None:
            assert info["status"] == status, info
            facts = probe(location(info))
            assert facts.video is not None
            assert facts.video.duration_s > least_s and facts.video.longest_gap_s < 1.5 / 30
            await check_complete(location(info), ann, Rect(0, 0, 1280, 720))
            assert not list((service.data / "spool").glob("EG_*"))

        egress_id = await begun("recorded")
        os.kill(service.handler_pid(), signal.SIGKILL)
        info, _ = await composed(service, egress_id)
        assert "killed by SIGKILL" in info["error"] and "is kept" in info["error"]
        await check(info, "EGRESS_FAILED", RECORDED_S / 2 - MAY_BE_LOST_S)

        egress_id = await begun("composed")
        await composes(egress_id)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info, _ = await composed(service, egress_id)
        await check(info, "EGRESS_COMPLETE", RECORDED_S / 2 - 0.2)

        egress_id = await begun("restarted")
        await composes(egress_id)
        await service.kill_all()
        await service.start()
        info, _ = await composed(service, egress_id)
        await check(info, "EGRESS_COMPLETE", RECORDED_S / 2 - 0.2)

        # One that is stopped in order has ended; its film comes later.
        egress_id = await begun("stopped")
        await composes(egress_id)
        await service.stop()
        await service.start()
        async with asyncio.timeout(60):
            while not (info := await service.info(egress_id))["file_results"][0]["location"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "its next start does that" in info["error"]
        while list((service.data / "spool").glob("EG_*")):  # noqa: ASYNC110 - it goes after the report
            await asyncio.sleep(0.05)
        await check(info, "EGRESS_FAILED", RECORDED_S / 2 - 0.2)
