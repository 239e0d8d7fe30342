"""One suite for every store: records that never go back, and an outbox in order."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import Code, EgressError
from openegress.store import Announce, Change, Delivery
from openegress.store.redis import RedisStore
from openegress.store.sqlite import SqliteStore
from testkit.redis_server import RedisServer

STARTING, ACTIVE = EgressStatus.EGRESS_STARTING, EgressStatus.EGRESS_ACTIVE
ENDING, COMPLETE = EgressStatus.EGRESS_ENDING, EgressStatus.EGRESS_COMPLETE


class Place:
    """Where a store keeps its data: makes stores over the same data, as a restart would."""

    def __init__(self, make: Callable[[], SqliteStore | RedisStore]) -> None:
        self._make = make
        self._open: list[SqliteStore | RedisStore] = []

    async def store(self) -> SqliteStore | RedisStore:
        store = self._make()
        await store.open()
        self._open.append(store)
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["sqlite", "redis", "cluster"], scope="module", loop_scope="module")
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisServer | None]:
    """The Redis of a store; None: it is a file."""
    if request.param == "sqlite":
        yield None
        return
    async with RedisServer(cluster=request.param == "cluster") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def place(redis: RedisServer | None, tmp_path: Path) -> AsyncIterator[Place]:
    if redis is None:
        place = Place(lambda: SqliteStore(tmp_path / "data" / "egress.db"))
    else:
        await redis.command("FLUSHALL")
        if redis.is_cluster:
            settings = RedisSettings(cluster_addresses=(redis.address,))
        else:
            settings = RedisSettings(address=redis.address)
        place = Place(lambda: RedisStore(settings))
    yield place
    await place.close()


def info(egress_id: str, status: EgressStatus, at: int, room: str = "room", **more: Any) -> EgressInfo:
    ended_at = at if status >= COMPLETE else 0
    return EgressInfo(
        egress_id=egress_id, room_name=room, status=status, started_at=int(egress_id[3:]), updated_at=at,
        ended_at=ended_at, **more,
    )  # fmt: skip


def to(*urls: str) -> Announce:
    def announce(change: Change, info: EgressInfo) -> list[Delivery]:
        body = f"{change.name} {info.updated_at}".encode()
        return [Delivery(info.egress_id, url, "key", "egress_updated", body, info.updated_at) for url in urls]

    return announce


async def test_what_is_put_is_read_after_a_restart(place: Place) -> None:
    store = await place.store()
    stored = info("EG_1", ACTIVE, 5, details="\0ü", manifest_location="x" * 100_000)
    assert await store.put(stored) is True
    assert await store.put(stored) is False
    await store.close()
    again = await place.store()
    assert await again.get("EG_1") == stored
    assert await again.get("EG_2") is None


async def test_changes(place: Place) -> None:
    store = await place.store()
    steps = [
        (STARTING, 1, Change.NEW),
        (ACTIVE, 2, Change.UPDATED),
        (STARTING, 1, Change.STALE),
        (COMPLETE, 4, Change.ENDED),
        (ACTIVE, 9, Change.STALE),
        (COMPLETE, 4, Change.STALE),
        (COMPLETE, 5, Change.REVISED),
    ]
    assert [await store.apply(info("EG_1", status, at)) for status, at, _ in steps] == [c for *_, c in steps]
    kept = await store.get("EG_1")
    assert kept is not None
    assert (kept.status, kept.updated_at) == (COMPLETE, 5)


async def test_an_end_counts_though_its_clock_is_behind(place: Place) -> None:
    store = await place.store()
    await store.put(info("EG_1", ACTIVE, 50))
    late = info("EG_1", COMPLETE, 40)
    assert await store.apply(late, to("u")) is Change.ENDED
    assert await store.apply(late, to("u")) is Change.STALE
    kept = await store.get("EG_1")
    assert kept is not None
    assert (kept.status, kept.updated_at, kept.ended_at) == (COMPLETE, 51, 40)
    assert [one.body for one in await store.claim(100, 200, 10)] == [b"ENDED 51"]


async def test_the_revision_rises_with_every_change_and_only_then(place: Place) -> None:
    store, other = await place.store(), await place.store()
    seen = [await store.revision()]
    for put in (info("EG_1", ACTIVE, 1), info("EG_1", COMPLETE, 2), info("EG_2", ACTIVE, 3)):
        await store.put(put)
        seen.append(await store.revision())
    assert seen == sorted(set(seen))
    await store.put(info("EG_1", ACTIVE, 1))
    assert await store.revision() == seen[-1]
    assert await store.purge(10) == 1
    assert await store.revision() > seen[-1]
    if isinstance(other, RedisStore):  # which many processes share
        assert await other.revision() == await store.revision()


async def test_lists_newest_first_by_room_and_activity(place: Place) -> None:
    store = await place.store()
    for one in (
        info("EG_1", ACTIVE, 1, "a"),
        info("EG_3", COMPLETE, 3, "a"),
        info("EG_2", STARTING, 2, "b"),
        info("EG_4", ENDING, 4, ""),
    ):
        await store.put(one)

    async def ids(room_name: str = "", active: bool = False) -> list[str]:
        return [one.egress_id for one in await store.list(room_name, active)]

    assert await ids() == ["EG_4", "EG_3", "EG_2", "EG_1"]
    assert await ids("a") == ["EG_3", "EG_1"]
    assert await ids("a", active=True) == ["EG_1"]
    assert await ids(active=True) == ["EG_4", "EG_2", "EG_1"]
    assert await ids("nobody") == []
    await store.put(info("EG_1", COMPLETE, 9, "a"))
    assert await ids("a", active=True) == []


async def test_purge_forgets_only_what_ended_long_ago(place: Place) -> None:
    store = await place.store()
    await store.put(info("EG_1", COMPLETE, 10))
    await store.put(info("EG_2", COMPLETE, 20))
    await store.put(info("EG_3", ACTIVE, 1))
    assert await store.purge(15) == 1
    assert [one.egress_id for one in await store.list()] == ["EG_3", "EG_2"]
    assert await store.list("room", active=True) == [info("EG_3", ACTIVE, 1)]
    assert await store.get("EG_1") is None


async def test_many_updates_at_once_end_an_egress_once(place: Place) -> None:
    store = await place.store()
    await store.put(info("EG_1", ACTIVE, 1))
    changes = await asyncio.gather(*(store.apply(info("EG_1", COMPLETE, at), to("u")) for at in range(2, 30)))
    assert changes.count(Change.ENDED) == 1
    claimed = await store.claim(100, 200, 10)
    assert [one.body.split()[0] for one in claimed] == [b"ENDED"]


async def test_outbox_keeps_the_order_of_a_lane_and_lanes_apart(place: Place) -> None:
    store = await place.store()
    await store.apply(info("EG_1", STARTING, 1), to("a", "b"))
    await store.apply(info("EG_1", ACTIVE, 2), to("a"))
    await store.apply(info("EG_2", STARTING, 3), to("a"))
    await store.apply(info("EG_1", ACTIVE, 2), to("a"))  # stale: announces nothing

    first = await store.claim(10, 50, 10)
    assert {(one.egress_id, one.url, one.body) for one in first} == {
        ("EG_1", "a", b"NEW 1"),
        ("EG_1", "b", b"NEW 1"),
        ("EG_2", "a", b"NEW 3"),
    }
    assert all((one.signing_key, one.event, one.attempts) == ("key", "egress_updated", 0) for one in first)
    assert await store.claim(11, 50, 10) == []
    assert await store.next_due_ns() == 50

    by_lane = {(one.egress_id, one.url): one for one in first}
    await store.postpone(by_lane["EG_1", "a"], due_ns=30, attempts=1)
    await store.confirm(by_lane["EG_1", "b"])
    assert await store.next_due_ns() == 30
    assert await store.claim(29, 60, 10) == []
    (again,) = await store.claim(30, 60, 10)
    assert (again.body, again.attempts) == (b"NEW 1", 1)
    await store.confirm(again)
    (second,) = await store.claim(31, 60, 10)
    assert second.body == b"UPDATED 2"
    await store.confirm(second)
    await store.confirm(by_lane["EG_2", "a"])
    assert await store.next_due_ns() is None


async def test_outbox_survives_a_restart_and_a_claim_that_was_never_settled(place: Place) -> None:
    store = await place.store()
    await store.apply(info("EG_1", STARTING, 1), to("a"))
    await store.apply(info("EG_1", COMPLETE, 2), to("a"))
    assert len(await store.claim(5, 20, 10)) == 1
    await store.close()
    again = await place.store()
    assert await again.claim(19, 40, 10) == []
    (head,) = await again.claim(20, 40, 10)
    assert head.body == b"NEW 1"


async def test_the_limit_of_a_claim(place: Place) -> None:
    store = await place.store()
    for n in range(1, 6):
        await store.apply(info(f"EG_{n}", STARTING, n), to("a"))
    assert [one.egress_id for one in await store.claim(9, 20, 3)] == ["EG_1", "EG_2", "EG_3"]
    assert [one.egress_id for one in await store.claim(9, 20, 3)] == ["EG_4", "EG_5"]


async def test_a_store_that_cannot_be_used_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "not a database").write_text("x" * 5000)
    for path in (tmp_path / "file" / "db", tmp_path / "not a database", tmp_path):
        with pytest.raises(EgressError, match=re.escape(f"the records in {path} cannot be used")) as caught:
            await SqliteStore(path).open()
        assert caught.value.code is Code.UNAVAILABLE


async def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EgressError, match=r"written by a newer release \(schema 99"):
        await SqliteStore(path).open()


async def test_a_caller_that_leaves_while_it_waits_for_the_file_leaves_no_transaction(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()
    loop, begins = asyncio.get_running_loop(), asyncio.Event()
    await store._database.set_trace_callback(lambda _: loop.call_soon_threadsafe(begins.set))
    with contextlib.closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.put(info("EG_1", ACTIVE, 1)))
        await begins.wait()
        waiting.cancel()
        for _ in range(3):
            await asyncio.sleep(0)  # the task hears of it
        other.execute("COMMIT")
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    try:
        assert await store.put(info("EG_1", ACTIVE, 1)) is True
    finally:
        await store.close()


async def test_a_failed_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    await store.open()

    def refuse(change: Change, info: EgressInfo) -> list[Delivery]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.apply(info("EG_1", ACTIVE, 1), refuse)
    assert await store.get("EG_1") is None
    assert await store.put(info("EG_1", ACTIVE, 1)) is True
    await store.close()
    with pytest.raises(EgressError, match="not open"):
        await store.get("EG_1")
