"""One suite for leases in memory and in Redis, and a death noticed across a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.config.settings import Redis as RedisSettings
from openegress.psrpc.client import RPCClient
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.server import RPCServer
from openegress.store import janitor as janitor_module
from openegress.store import leases as memory_leases
from openegress.store import redis_leases
from openegress.store.heartbeat import Heartbeat
from openegress.store.ioinfo import IOInfoService
from openegress.store.janitor import Janitor
from openegress.store.leases import Leases, MemoryLeases, share
from openegress.store.redis_leases import RedisLeases
from openegress.store.sqlite import SqliteStore
from testkit.redis_server import RedisServer

SHORT_S = 1.5
LONG_S = 60.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory_leases, redis_leases, janitor_module):
        monkeypatch.setattr(module, "LEASE_S", SHORT_S)
    monkeypatch.setattr(janitor_module, "ROUND_S", 0.05)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    if request.param == "memory":
        yield MemoryLeases()
        return
    async with RedisServer(cluster=request.param == "cluster") as redis:
        if request.param == "cluster":
            leases = RedisLeases(RedisSettings(cluster_addresses=(redis.address,)))
        else:
            leases = RedisLeases(RedisSettings(address=redis.address))
        yield leases
        await leases.close()


async def run_out() -> None:
    await asyncio.sleep(SHORT_S + 0.1)


async def test_a_lease_lasts_while_it_is_held_anew(leases: Leases) -> None:
    await leases.hold("NE_1", ["EG_1", "EG_2"])
    await leases.hold("NE_1", [])
    assert await leases.held() == {"EG_1", "EG_2"}
    assert await leases.lost() == []
    await run_out()
    await leases.hold("NE_1", ["EG_2"])
    (lost,) = await leases.lost()
    assert (lost.egress_id, lost.worker_id) == ("EG_1", "NE_1")
    assert SHORT_S <= lost.silent_s < SHORT_S + 10
    assert await leases.held() == {"EG_1", "EG_2"}


async def test_a_released_lease_is_not_lost(leases: Leases) -> None:
    await leases.hold("NE_1", ["EG_1", "EG_2"])
    await leases.release(["EG_1"])
    await leases.release([])
    await leases.release(["EG_9"])
    assert await leases.held() == {"EG_2"}
    await run_out()
    assert [lost.egress_id for lost in await leases.lost()] == ["EG_2"]


async def test_what_nobody_holds_can_be_taken_once(leases: Leases) -> None:
    await leases.hold("NE_1", ["EG_1"])
    assert not await leases.take("NE_2", "EG_1")
    await run_out()
    assert await leases.take("NE_2", "EG_1")
    assert not await leases.take("NE_3", "EG_1")
    assert await leases.take("NE_2", "EG_without_lease")
    await run_out()
    assert {lost.worker_id for lost in await leases.lost()} == {"NE_2"}


async def test_what_nobody_has_alone_can_be_shared(leases: Leases) -> None:
    one, two = share("x", "NE_1"), share("x", "NE_2")
    assert await leases.take("NE_1", one)
    assert await leases.take("NE_2", two)
    assert not await leases.take("NE_3", "x")
    await run_out()
    await leases.hold("NE_2", [two, "y"])
    assert not await leases.take("NE_1", "x")
    await leases.release([two])
    assert await leases.take("NE_1", "x")
    assert not await leases.take("NE_2", two)
    assert await leases.take("NE_1", one), "it is the same worker's"
    await run_out()
    assert await leases.take("NE_2", two)
    assert not await leases.take("NE_1", "x")
    assert await leases.take("NE_2", "x"), "it is the same worker's"


async def test_an_egress_whose_worker_falls_silent_is_ended_by_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a record keeper on the bus, as behind a livekit-server: two workers, one of which dies."""
    async with RedisServer() as redis:
        settings = RedisSettings(address=redis.address)
        bus = RedisBus(settings)
        store = SqliteStore(tmp_path / "db")
        await store.open()
        server, client = RPCServer(bus), RPCClient(bus)
        records = IOInfoService(store)
        await records.register(server)
        ended = asyncio.Event()
        records.listen(lambda info: ended.set() if info.status == EgressStatus.EGRESS_FAILED else None)
        for egress_id in ("EG_1", "EG_2", "EG_3"):
            await store.put(EgressInfo(egress_id=egress_id, status=EgressStatus.EGRESS_ACTIVE, updated_at=1))

        theirs, ours = RedisLeases(settings), RedisLeases(settings)
        await Heartbeat(theirs, "NE_dying", lambda: ["EG_1"]).beat()
        monkeypatch.setattr(redis_leases, "LEASE_S", LONG_S)
        await Heartbeat(ours, "NE_living", lambda: ["EG_2"]).beat()
        janitors = [Janitor.of_worker(ours, name, client) for name in ("NE_living", "NE_third")]
        for janitor in janitors:
            janitor.start()
        async with asyncio.timeout(10):
            await ended.wait()
        first, second, third = [await records.get(one) for one in ("EG_1", "EG_2", "EG_3")]
        assert first.status == EgressStatus.EGRESS_FAILED
        assert "worker NE_dying has not been heard of" in first.error
        assert {second.status, third.status} == {EgressStatus.EGRESS_ACTIVE}
        for janitor in janitors:
            await janitor.close()
        for part in (client, server, theirs, ours, bus, store):
            await part.close()
