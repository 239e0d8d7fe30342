"""A recording whose machine is busy with something else: it ends at once, and all of its sound is there."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from testkit import probe
from testkit.livekit_server import LivekitServer, free_port
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.service import Service, location

pytestmark = pytest.mark.quiet

SPINNERS = 8
"""Processes that compute without end. Each is a session, so that a kernel with autogroups (sched(7)) gives
each as much as a whole recording."""
STOP_S = 2.0
WINDOW_S = 0.02
QUIET = 0.5
"""Of the usual level: with less, the tone between the beeps is missing."""


@contextmanager
def spinning() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    spinners = [subprocess.Popen(command, start_new_session=True) for _ in range(SPINNERS)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
        for spinner in spinners:
            spinner.wait()


def silent_s(path: Path) -> float:
    """For how long altogether nothing is heard, from the first second on."""
    heard = probe.sound(path)
    wave = heard.samples.mean(axis=0)[heard.sample_rate :]
    size = round(heard.sample_rate * WINDOW_S)
    windows = wave[: len(wave) // size * size].reshape(-1, size)
    levels = np.sqrt((windows**2).mean(axis=1))
    return float((levels < QUIET * np.median(levels)).sum() * WINDOW_S)


async def pictures_left_out(metrics_port: int) -> int:
    """As the metric has it, once a recording has been counted."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(10):
        while True:
            async with http.get(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
                metrics = await answer.text()
            if found := re.search(r'^openegress_left_out_total{.*what="pictures".*} (\S+)$', metrics, re.M):
                return round(float(found[1]))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["room", "page"])
async def test_a_stop_takes_no_longer_where_all_cores_are_busy(tmp_path: Path, kind: str) -> None:
    video = VideoSpec(codec="vp8", width=1280, height=720, kbps=2500, busy=True)
    metrics_port = free_port()
    outputs = {
        "preset": "H264_720P_30",
        "file_outputs": [{"filepath": "a.mp4"}],
        "segment_outputs": [{"filename_prefix": "segments/a", "segment_duration": 2}],
    }
    async with (
        LivekitServer() as server,
        PageServer() as pages,
        Service(tmp_path, server, {"deny_networks": [], "prometheus_port": metrics_port}) as service,
        AsyncExitStack() as people,
    ):
        if kind == "room":
            await people.enter_async_context(Publisher(server, "room", "ann", video, AudioSpec()))
            started = await service.call(
                "StartRoomCompositeEgress", room_name="room", layout="grid", **outputs
            )
        else:
            url = pages.url("pattern.html?tone=1&busy=1")
            started = await service.call("StartWebEgress", url=url, **outputs)
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(2)  # of media on a machine that has time
        with spinning():
            await asyncio.sleep(6)  # of media on one that has none
            stopped_s = time.monotonic()
            info = await service.finish(egress_id)
            took_s = time.monotonic() - stopped_s
        left_out = await pictures_left_out(metrics_port)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert took_s < STOP_S
    # Pictures were too many by far; each that is not there is counted, wherever one looks.
    manifest = json.loads(next(service.out.rglob("EG_*.json")).read_text())
    assert left_out == manifest["left_out"]["pictures"] > 10
    assert f"{left_out} pictures for want of time to encode them" in info["details"]
    path = location(info)
    assert silent_s(path) <= WINDOW_S
    facts = await asyncio.to_thread(probe.probe, path)
    assert facts.video is not None and facts.audio is not None
    assert facts.duration_s > 6
