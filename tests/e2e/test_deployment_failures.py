"""Workers, Redis and livekit-server that are killed while a track is recorded: records end true, once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from testkit.fault_proxy import FaultProxy
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import probe
from testkit.redis_server import RedisServer
from testkit.service import EgressClient, Info, Refused, Service, end_reason, location
from testkit.webhook_receiver import VerifiedWebhooks

CAMERA = VideoSpec(width=320, height=180, fps=15, kbps=200)
RECORDED_S = 4.0
MAY_BE_LOST_S = 2.0
LOST_S = 60.0
"""Within this long the end of a worker is noticed."""

FULL = {"track_cpu_cost": 100}
"""An idle worker takes anything; with this, none takes a second egress."""


@dataclass
class World:
    folder: Path
    redis: RedisServer
    livekit: LivekitServer
    egress: EgressClient
    hooks: VerifiedWebhooks
    alice: Publisher
    stack: AsyncExitStack

    async def worker(self, name: str, **config: Any) -> Service:
        config = {"redis": {"address": self.redis.address}, **config}
        return await self.stack.enter_async_context(
            Service(self.folder / name, self.livekit, config, "worker")
        )

    async def start(self, path: str = "track") -> str:
        """A track egress of the microphone; its id."""
        info = await self.egress.call(
            "StartTrackEgress",
            room_name=self.alice.room_name,
            track_id=self.alice.sid("microphone"),
            file={"filepath": path},
        )
        return str(info["egress_id"])

    async def record(self, path: str = "track") -> str:
        egress_id = await self.start(path)
        await self.egress.active(egress_id)
        await asyncio.sleep(RECORDED_S)
        return egress_id

    async def answers(self, egress_id: str) -> None:
        """Returns once livekit-server has found its Redis again: for a second it repeats its last error."""
        async with asyncio.timeout(LOST_S):
            while True:
                try:
                    await self.egress.info(egress_id)
                except Refused as refused:
                    if "connection refused" not in str(refused):
                        raise
                    await asyncio.sleep(0.1)
                else:
                    return

    async def ended_once(self, egress_id: str) -> Info:
        """The final record; its end has been told, and is told no second time."""
        info = await self.egress.wait(egress_id, timeout_s=LOST_S)
        await self.hooks.until(egress_id, "egress_ended")
        await asyncio.sleep(1.0)
        names = self.hooks.of(egress_id)
        assert names.count("egress_ended") == 1 and names[-1] == "egress_ended", names
        return info


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, hooks = await enter(RedisServer()), await enter(VerifiedWebhooks())
        livekit = await enter(LivekitServer(redis_url=redis.url, webhook_url=hooks.url))
        hooks.trust(livekit.api_key, livekit.api_secret)
        egress = await enter(EgressClient(livekit.http_url, livekit.api_key, livekit.api_secret))
        alice = await enter(Publisher(livekit, "r", "alice", None, AudioSpec()))
        yield World(tmp_path, redis, livekit, egress, hooks, alice, stack)


def duration_s(path: Path) -> float:
    audio = probe(path).audio
    assert audio is not None
    return audio.duration_s


def recorders(worker: Service) -> int:
    """Egresses that run on it."""
    return len([pid for pid in worker.handlers() if worker.records(pid)])


async def test_two_workers_share_and_one_drains(world: World) -> None:
    one = await world.worker("one", cpu_cost=FULL)
    two = await world.worker("two", cpu_cost=FULL)
    ids = [await world.record("a"), await world.record("b")]
    assert (recorders(one), recorders(two)) == (1, 1)
    with pytest.raises(Refused, match="not enough CPU: track needs about 100"):
        await world.start("c")

    draining = asyncio.create_task(one.stop(signal.SIGTERM))
    done, _ = await asyncio.wait([draining], timeout=2.0)
    assert not done
    for egress_id in ids:
        info = await world.egress.finish(egress_id)
        assert info["status"] == "EGRESS_COMPLETE", info["error"]
        assert duration_s(location(info)) > RECORDED_S * 0.8
    async with asyncio.timeout(15):
        assert await draining == 0
    # The other goes on taking what comes.
    third = await world.record("e")
    assert (await world.egress.finish(third))["status"] == "EGRESS_COMPLETE"
    for egress_id in (*ids, third):
        await world.ended_once(egress_id)


async def test_workers_killed_or_cut_off_are_reported_by_another(world: World) -> None:
    doomed = await world.worker("doomed", cpu_cost=FULL)
    ids = [await world.record("doomed")]
    cut = await world.worker("cut")
    ids.append(await world.record("cut"))
    await world.worker("other")
    cut_off = psutil.Process(cut.handler_pid())
    os.kill(doomed.handler_pid(), signal.SIGKILL)
    await doomed.kill()
    psutil.Process(cut.pid).suspend()
    for egress_id in ids:
        info = await world.ended_once(egress_id)
        assert info["status"] == "EGRESS_FAILED"
        assert "has not been heard of for" in info["error"]

    # Clients were told that it ended, and cannot stop it any more: the worker does when it is back.
    psutil.Process(cut.pid).resume()
    await doomed.start()
    await asyncio.to_thread(cut_off.wait, 20)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(lambda: list((doomed.data / "spool").glob("EG_*"))):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert duration_s(doomed.out / "doomed.ogg") > RECORDED_S - MAY_BE_LOST_S
    assert duration_s(cut.out / "cut.ogg") > RECORDED_S + 25
    for egress_id in ids:
        assert (await world.ended_once(egress_id))["status"] == "EGRESS_FAILED"


async def test_redis_killed_in_a_recording(world: World) -> None:
    await world.worker("worker")
    egress_id = await world.record()
    await world.redis.kill()
    await asyncio.sleep(5.0)
    await world.redis.start()
    await asyncio.sleep(2.0)
    info = await stopped(world, egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert duration_s(location(info)) > RECORDED_S + 7.0 - 1.0


async def test_an_end_that_nobody_takes_waits_on_disk(world: World) -> None:
    worker = await world.worker("worker")
    egress_id = await world.record()
    await world.redis.kill()
    async with asyncio.timeout(30):
        assert await worker.stop() == 0
    assert [path.stem for path in (worker.data / "unreported").iterdir()] == [egress_id]
    await world.redis.start()
    await worker.start()
    await world.answers(egress_id)
    info = await world.ended_once(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert end_reason(info) == "End reason: Process killed"
    assert duration_s(location(info)) > RECORDED_S - 1.0
    assert not list((worker.data / "unreported").iterdir())


async def test_livekit_server_killed_in_a_recording(world: World) -> None:
    worker = await world.worker("worker")
    egress_id = await world.record()
    await world.livekit.restart()
    await worker.logged("connection to room is back", timeout_s=30)
    await asyncio.sleep(RECORDED_S)
    info = await stopped(world, egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert duration_s(location(info)) > 2 * RECORDED_S - MAY_BE_LOST_S


async def test_the_network_of_a_worker_cut_and_restored(world: World) -> None:
    async with FaultProxy(world.redis.port) as redis, FaultProxy(world.livekit.port) as signalling:
        worker = await world.worker(
            "worker",
            redis={"address": f"127.0.0.1:{redis.port}"},
            ws_url=f"ws://127.0.0.1:{signalling.port}",
        )
        egress_id = await world.record()
        assert signalling.connections
        await asyncio.gather(redis.refuse(), signalling.refuse())
        await asyncio.sleep(RECORDED_S)
        await asyncio.gather(redis.accept(), signalling.accept())
        await asyncio.sleep(RECORDED_S)
        info = await stopped(world, egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        # Media has a way of its own, and is worth having as long as it comes.
        assert duration_s(location(info)) > 3 * RECORDED_S - MAY_BE_LOST_S
        await worker.stop()


async def stopped(world: World, egress_id: str) -> Info:
    """Stops it as soon as livekit-server has found its own way back to Redis."""
    async with asyncio.timeout(30):
        while True:
            try:
                await world.egress.call("StopEgress", egress_id=egress_id)
                return await world.ended_once(egress_id)
            except Refused as refused:
                if refused.code == "failed_precondition":
                    raise
            await asyncio.sleep(0.2)
