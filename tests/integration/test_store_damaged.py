"""Records, keys and webhooks that others have damaged: put aside, told, and nothing stops for them."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.config.settings import Redis
from openegress.store import Change, Delivery, redis_keys
from openegress.store.leases import LEASE_S
from openegress.store.redis import RedisStore
from openegress.store.redis_leases import RedisLeases
from openegress.store.sqlite import SqliteStore
from testkit.redis_server import RedisServer

GOOD = EgressInfo(egress_id="EG_good", room_name="r", status=EgressStatus.EGRESS_ACTIVE, updated_at=1)
DAMAGED = {
    "EG_bytes": b"\xff\xff\xff",
    "EG_other": EgressInfo(egress_id="EG_good").SerializeToString(),
    "EG_<img src=x>": EgressInfo(egress_id="EG_<img src=x>").SerializeToString(),
    "../x": EgressInfo(egress_id="../x").SerializeToString(),
}
"""By the id it is stored under."""


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis(port=server.port)
    yield client
    await client.aclose()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(Redis(address=server.address))
    await store.open()
    yield store
    await store.close()


async def test_records_in_sqlite(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    assert await store.apply(GOOD) is Change.NEW
    with sqlite3.connect(tmp_path / "db") as database:
        database.executemany("INSERT INTO egress VALUES (?, 'r', 1, 5, 0, ?)", DAMAGED.items())
        database.execute("INSERT INTO egress VALUES ('EG_text', 'r', 1, 5, 0, 'text')")
    assert await store.get("EG_bytes") is None
    for _ in range(2):
        assert await store.list() == [GOOD]
        assert await store.list("r", active=True) == [GOOD]
    again = EgressInfo(egress_id="EG_bytes", status=EgressStatus.EGRESS_ACTIVE)
    assert await store.apply(again) is Change.NEW
    await store.close()
    with sqlite3.connect(tmp_path / "db") as database:
        assert dict(database.execute("SELECT id, info FROM damaged")) == {**DAMAGED, "EG_text": "text"}


async def test_records_in_redis(store: RedisStore, raw: Any) -> None:
    await store.apply(GOOD)
    await raw.hset(redis_keys.RECORDS, mapping=DAMAGED)
    await raw.sadd(redis_keys.ACTIVE, *DAMAGED, "EG_gone")
    await raw.sadd(redis_keys.ROOM + "r", *DAMAGED)
    revision = await store.revision()
    assert await store.get("EG_bytes") is None
    for _ in range(2):
        assert await store.list() == [GOOD]
        assert await store.list("r") == [GOOD]
        assert await store.list(active=True) == [GOOD]
    assert await store.revision() > revision
    kept = await raw.hgetall(redis_keys.DAMAGED)
    assert kept == {f"record {name}".encode(): data for name, data in DAMAGED.items()}
    again = EgressInfo(egress_id="EG_bytes", status=EgressStatus.EGRESS_ACTIVE)
    assert await store.apply(again) is Change.NEW


async def test_damaged_records_are_purged(store: RedisStore, raw: Any) -> None:
    await raw.hset(redis_keys.RECORDS, mapping=DAMAGED)
    await raw.zadd(redis_keys.ENDED, dict.fromkeys(DAMAGED, 1))
    assert await store.purge(10) == len(DAMAGED)
    assert await raw.hlen(redis_keys.RECORDS) == 0


async def test_webhooks_in_redis(store: RedisStore, raw: Any) -> None:
    """Those of others go out; the damaged ones, their lanes and lanes that are none are gone."""
    await raw.hset(redis_keys.DELIVERIES, mapping={"97": b"junk", "junk": b"x"})
    for lane, delivery_id in (("a b", "97"), ("c d", "98"), ("e f", "junk")):
        await raw.rpush(redis_keys.LANE + lane, delivery_id)
        await raw.zadd(redis_keys.LANES, {lane: 0})
    await raw.set(redis_keys.LANE + "g h", "no list")
    await raw.zadd(redis_keys.LANES, {"g h": 0, "without a list": 0})
    delivery = Delivery("EG_good", "http://u", "k", "egress_started", b"{}", 1)
    await store.apply(GOOD, lambda change, info: [delivery])
    found = await store.claim(now_ns=10, until_ns=20, limit=10)
    assert [(each.egress_id, each.body) for each in found] == [("EG_good", b"{}")]
    await store.confirm(found[0])
    assert await store.next_due_ns() is None
    assert await raw.keys(redis_keys.LANE + "*") == []
    assert await raw.hget(redis_keys.DAMAGED, "delivery 97") == b"junk"


@pytest.mark.parametrize(
    "key",
    [
        redis_keys.RECORDS,
        redis_keys.ACTIVE,
        redis_keys.ENDED,
        redis_keys.ROOM + "r",
        redis_keys.DELIVERIES,
        redis_keys.LANES,
        redis_keys.LAST_DELIVERY,
        redis_keys.REVISION,
    ],
)
@pytest.mark.parametrize("value", ["text", ["a", "list"]])
async def test_keys_of_another_kind(store: RedisStore, raw: Any, key: str, value: str | list[str]) -> None:
    await store.apply(EgressInfo(egress_id="EG_before", room_name="r"))
    await raw.delete(key)
    await (raw.set(key, value) if isinstance(value, str) else raw.rpush(key, *value))
    await store.revision()
    await store.list()
    await store.list("r", active=True)
    await store.claim(10, 20, 10)
    await store.next_due_ns()
    delivery = Delivery("EG_good", "http://u", "k", "egress_started", b"{}", 1)
    assert await store.apply(GOOD, lambda change, info: [delivery]) is not Change.STALE
    assert await store.get("EG_good") == GOOD
    assert GOOD in await store.list("r")
    await store.purge(10)
    asides = [name async for name in raw.scan_iter(redis_keys.DAMAGED + ":*")]
    assert len(asides) == 1 and key.removeprefix(redis_keys.PREFIX) in asides[0].decode()


async def test_leases_of_nobody(server: RedisServer, raw: Any) -> None:
    leases = RedisLeases(Redis(address=server.address))
    await leases.hold("W_1", ["EG_lost"])
    await raw.zadd(redis_keys.LEASES, {"EG_lost": 1, b"\xff": 1, "../x": 1})
    assert [(each.egress_id, each.worker_id) for each in await leases.lost()] == [("EG_lost", "W_1")]
    assert "EG_lost" in await leases.held()
    await raw.delete(redis_keys.LEASES)
    await raw.set(redis_keys.LEASES, "text")
    assert await leases.lost() == []
    assert await leases.take("W_1", "EG_1") and LEASE_S > 0
    await leases.close()
