"""Processes killed in the middle of a recording: the record ends true, and what was recorded is kept."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import Publisher, VideoSpec
from testkit.probe import counters, probe
from testkit.service import Info, Service, location

RECORDED_S = 4.0
WARM_S = 20.0
MAY_BE_LOST_S = 2.0
"""What a kill may cost: the fragment that was being written and what the encoder held."""


@pytest.fixture
async def page() -> AsyncIterator[str]:
    async with PageServer() as pages:
        yield pages.url("pattern.html?tone=1")


async def start(service: Service, page: str) -> str:
    info = await service.call("StartWebEgress", url=page, file_outputs=[{"filepath": "page.mp4"}])
    await service.active(info["egress_id"])
    await asyncio.sleep(RECORDED_S)
    return str(info["egress_id"])


def check_kept(info: Info) -> None:
    """A whole, plain MP4 with all but the last moments, and a record that says so."""
    path = location(info)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s > RECORDED_S - MAY_BE_LOST_S
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat")
    assert counters(path).in_order
    file = info["file_results"][0]
    assert int(file["size"]) == path.stat().st_size
    assert abs(int(file["duration"]) / 1e9 - facts.duration_s) < 0.1


async def test_a_killed_handler_costs_no_recording(tmp_path: Path, page: str) -> None:
    async with Service(tmp_path, config={"deny_networks": []}) as service:
        egress_id = await start(service, page)
        before = psutil.Process(service.handler_pid()).children(recursive=True)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.wait(egress_id, timeout_s=20)
        assert info["status"] == "EGRESS_FAILED"
        assert "killed by SIGKILL" in info["error"] and "is kept" in info["error"]
        assert info["error_code"] == 500
        check_kept(info)
        _, alive = await asyncio.to_thread(psutil.wait_procs, before, 5)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        assert list((service.data / "spool").glob("EG_*")) == []


async def test_a_killed_handler_keeps_the_first_seconds_of_a_track(tmp_path: Path) -> None:
    """Before a sender report has come: it takes livekit-server three to six seconds to send one."""
    camera = VideoSpec("h264", width=320, height=180, kbps=400, encoded=True)
    async with (
        LivekitServer() as livekit,
        Publisher(livekit, "calls", "ann", camera) as ann,
        Service(tmp_path, livekit) as service,
    ):
        info = await service.call(
            "StartTrackEgress",
            room_name="calls",
            track_id=ann.sid("camera"),
            file={"filepath": "camera.mp4"},
        )
        await service.active(info["egress_id"])
        await asyncio.sleep(RECORDED_S)
        os.kill(service.handler_pid(), signal.SIGKILL)
        info = await service.wait(info["egress_id"], timeout_s=20)
        dropped = await ann.dropped()
    facts = probe(location(info))
    assert facts.video is not None
    assert facts.video.duration_s > RECORDED_S - MAY_BE_LOST_S
    read = counters(location(info))
    assert read.in_order and len(read.missing_of(ann.sent_ns())) <= dropped


@pytest.mark.parametrize("with_worker", [False, True])
async def test_a_handler_killed_before_it_could_record_leaves_nothing(
    tmp_path: Path, page: str, with_worker: bool
) -> None:
    async with Service(tmp_path, config={"deny_networks": []}) as service:
        request = {"url": page, "await_start_signal": True, "file_outputs": [{"filepath": "page.mp4"}]}
        egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
        spool = service.data / "spool"
        async with asyncio.timeout(20):
            while not any(spool.glob("EG_*/lock")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        os.kill(service.handler_pid(), signal.SIGKILL)
        if with_worker:
            await service.kill()
            await service.start()
        info = await service.wait(egress_id, timeout_s=20)
        assert info["status"] == "EGRESS_FAILED"
        async with asyncio.timeout(10):
            while list(spool.iterdir()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["chromium", "Xvfb"])
async def test_a_killed_browser_ends_the_egress_and_keeps_its_file(
    tmp_path: Path, page: str, name: str
) -> None:
    async with Service(tmp_path, config={"deny_networks": []}) as service:
        egress_id = await start(service, page)
        family = psutil.Process(service.handler_pid()).children(recursive=True)
        victim = next(child for child in family if child.name() == name)
        victim.kill()
        info = await service.wait(egress_id, timeout_s=20)
        assert info["status"] == "EGRESS_FAILED"
        assert "recording" in info["error"]
        check_kept(info)


@pytest.mark.parametrize("name", ["chromium", "renderer", "Xvfb", "pulseaudio"])
async def test_a_browser_that_died_while_it_waited_costs_no_request(
    tmp_path: Path, page: str, name: str
) -> None:
    async with Service(tmp_path, config={"deny_networks": [], "prewarmed_browsers": 1}) as service:
        await asyncio.to_thread(kill_idle, service.pid, name)
        egress_id = await start(service, page)
        assert "the browser that was started ahead has died" in service.log
        info = await service.finish(egress_id)
        assert info["status"] == "EGRESS_COMPLETE", info["error"]
        check_kept(info)


def kill_idle(service: int, name: str) -> None:
    """Kills a part of the browser that waits for a request, once that is up."""
    deadline = time.monotonic() + WARM_S
    while "renderer" not in browser_parts(service):
        assert time.monotonic() < deadline, "no browser was started ahead"
        time.sleep(0.1)
    time.sleep(2.0)  # by then it has said that it is ready: a start that fails is another matter
    browser_parts(service)[name].kill()
    time.sleep(0.5)


def browser_parts(service: int) -> dict[str, psutil.Process]:
    """Its processes by name, and its renderer."""
    found = {}
    for child in psutil.Process(service).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if "--type=renderer" in command:
                found["renderer"] = child
            elif "--type=" not in command:
                found[child.name()] = child
    return found


async def test_a_service_killed_and_started_again_finishes_what_it_left(tmp_path: Path, page: str) -> None:
    service = Service(tmp_path, config={"deny_networks": []})
    async with service:
        egress_id = await start(service, page)
        handler = service.handler_pid()
        os.kill(handler, signal.SIGKILL)
        await service.kill()
        assert await asyncio.to_thread(Path(service.data, "spool", egress_id).exists)
        await service.start()
        info = await service.wait(egress_id, timeout_s=20)
        assert info["status"] == "EGRESS_FAILED"
        assert "the worker ended while it recorded this" in info["error"]
        check_kept(info)


async def test_an_orphaned_handler_finishes_by_itself_and_is_reported_later(
    tmp_path: Path, page: str
) -> None:
    service = Service(tmp_path, config={"deny_networks": []})
    async with service:
        egress_id = await start(service, page)
        handler = psutil.Process(service.handler_pid())
        await service.kill()
        await asyncio.to_thread(handler.wait, 20)
        # Nobody puts it in its place.
        (finished,) = service.data.glob(f"spool/{egress_id}/file-0/*")
        assert probe(finished).video is not None and not (service.out / "page.mp4").exists()
        await service.start()
        info = await service.wait(egress_id, timeout_s=20)
        assert probe(service.out / "page.mp4").video is not None
        assert info["status"] == "EGRESS_FAILED"
        check_kept(info)
