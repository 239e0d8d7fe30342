"""One row: publish or serve a page, record, and read the machine and the file."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from livekit import api

from bench.room_receive import publishing
from bench.rows import ROOM, Row, Setting
from openegress.source.room.composite.rectangles import GRID_CAPACITY, grid_rects
from testkit.livekit_server import LivekitServer
from testkit.load import process_tree_load, process_tree_pss
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher
from testkit.probe import Rect, av_offset, crop, frames, luma_of, probe
from testkit.service import Service, location
from testkit.stream_servers import RtmpServer

SETTLE_S = 14.0
"""The time after ACTIVE before the window: the cost of a start is another matter. Tracks of a room wait three
to six seconds for a sender report, and making up for that takes as long again."""


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    cores: float
    mib: float
    """What it adds to the fork server, and to all processes below that."""
    active_s: float
    stopped_s: float
    fps: float
    unique: float
    """Share of the frames that show a new picture."""
    av_ms: tuple[float, float, float] | None
    """Minimum, median, maximum."""


def combined(results: Sequence[Result]) -> Result:
    """Combines measurements of one row: the lowest cores, memory and times, and the worst recording."""
    offsets = [result.av_ms for result in results if result.av_ms is not None]
    return Result(
        results[0].name,
        cores=min(result.cores for result in results),
        mib=min(result.mib for result in results),
        active_s=min(result.active_s for result in results),
        stopped_s=min(result.stopped_s for result in results),
        fps=min(result.fps for result in results),
        unique=min(result.unique for result in results),
        av_ms=(
            min(least for least, _, _ in offsets),
            statistics.median(median for _, median, _ in offsets),
            max(most for _, _, most in offsets),
        )
        if offsets
        else None,
    )


@contextlib.asynccontextmanager
async def scene(row: Row) -> AsyncIterator[tuple[LivekitServer | None, Setting]]:
    async with contextlib.AsyncExitStack() as stack:
        rtmp = stack.enter_context(RtmpServer()).rtmp_url("live/bench") if row.streamed else ""
        if row.page:
            pages = await stack.enter_async_context(PageServer())
            moving = "pattern.html?tone=1" + ("&busy=1" if row.busy else "")
            yield None, Setting(pages.url("blank" if row.still else moving), "", "", rtmp)
            return
        server = await stack.enter_async_context(LivekitServer())
        if row.crowd is not None:
            await stack.enter_async_context(publishing(server, row.crowd, row.crowd.video))
            yield server, Setting("", "", "", rtmp)
            return
        for index in range(row.publishers):
            audio = AudioSpec(tone_hz=300 + 150 * index, beep_level=0.5 if index == 0 else 0.0)
            await stack.enter_async_context(
                Publisher(server, ROOM, f"p{index}", video=row.video, audio=audio)
            )
        sids = await published(server, 1 if row.video is None else 2)
        await asyncio.sleep(2)  # encoders of publishers ramp up
        yield server, Setting("", sids.get(api.TrackType.VIDEO, ""), sids[api.TrackType.AUDIO], rtmp)


async def measure(row: Row, folder: Path, seconds: float, *, warm: bool) -> Result:
    """Records for `seconds` after the recording has settled. A start without a waiting handler is not waited
    for."""
    async with scene(row) as (server, setting):
        config: dict[str, Any] = {
            "prewarmed_browsers": 1 if warm and row.page else 0,
            "deny_networks": [],
            "storage_check": True,
        }
        async with Service(folder, server, config) as service:
            await settled(service)
            forks = service.fork_pid()
            idle_bytes = process_tree_pss(forks)
            asked = time.monotonic()
            info = await service.call(row.method, **row.request(setting))
            egress_id = info["egress_id"]
            await service.active(egress_id)
            active_s = time.monotonic() - asked
            await asyncio.sleep(SETTLE_S if warm else 0.0)
            pid = service.handler_pid()
            before = process_tree_load(pid)
            await asyncio.sleep(seconds)
            after = process_tree_load(pid)
            added_bytes = process_tree_pss(forks) - idle_bytes
            asked = time.monotonic()
            info = await service.finish(egress_id)
            stopped_s = time.monotonic() - asked
    if info["status"] != "EGRESS_COMPLETE":
        raise SystemExit(f"{row.name}: {info['status']}: {info['error']}")
    fps, unique, av_ms = _look(location(info), row)
    return Result(
        row.name,
        after.cores_since(before),
        added_bytes / 2**20,
        active_s,
        stopped_s,
        fps,
        unique,
        av_ms,
    )


async def published(server: LivekitServer, tracks: int) -> dict[int, str]:
    """Track ids of the first publisher by type, once this many are published."""
    while True:
        listed = await server.room_service().list_participants(api.ListParticipantsRequest(room=ROOM))
        for participant in listed.participants:
            if participant.identity == "p0" and len(participant.tracks) == tracks:
                return {int(track.type): track.sid for track in participant.tracks}
        await asyncio.sleep(0.05)


async def settled(service: Service) -> None:
    """Returns when the service has finished the work that it does ahead of requests."""
    pid = service.pid
    process = psutil.Process(pid)
    while True:
        before = process_tree_load(pid)
        await asyncio.sleep(1)
        is_quiet = process.is_running() and process_tree_load(pid).cores_since(before) < 0.1
        if is_quiet and service.handlers():
            return


def _look(path: Path, row: Row) -> tuple[float, float, tuple[float, float, float] | None]:
    facts = probe(path)
    if facts.video is None:
        return 0.0, 0.0, None
    if row.still:
        return facts.video.fps, 0.0, None
    tile = _tile(row)
    shown = changes(path, tile)
    offset = None
    if facts.audio is not None and row.crowd is None:
        av = av_offset(path, tile)
        offset = (av.min_ms, av.median_ms, av.max_ms)
    return facts.video.fps, shown / max(1, facts.video.frames), offset


def _tile(row: Row) -> Rect | None:
    """The first one of several, or the whole picture."""
    people = row.crowd.video if row.crowd is not None else row.publishers
    if people == 1:
        return None
    first = grid_rects(min(people, GRID_CAPACITY), row.canvas)[0]
    return Rect(first.x, first.y, first.width, first.height)


def changes(path: Path, tile: Rect | None) -> int:
    """How many pictures show a counter that the previous one did not show, even if only a part of it is in
    sight."""
    count, last = 0, b""
    for _, frame in frames(path):
        luma = crop(luma_of(frame), tile)
        cell = max(2, luma.shape[0] * 16 // 9 // 40)
        band = luma[cell : 2 * cell].mean(axis=0)
        bits = (band[: len(band) // 8 * 8].reshape(-1, 8).mean(axis=1) > 128).tobytes()
        count += bits != last
        last = bits
    return count
