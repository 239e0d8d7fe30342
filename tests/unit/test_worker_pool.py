"""Handlers in stock, of processes that only pretend."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from openegress.core import ipc
from openegress.core.plan import Plan, VideoEncoding, WebSource
from openegress.worker import pool as pools
from openegress.worker.pool import Pool, Shape


class Handler:
    ended = "exit status 1"

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.alive = True
        self.reaped = False

    async def messages(self) -> AsyncIterator[Any]:
        for each in self.script:
            if isinstance(each, Exception):
                raise each
            if each == "silence":
                await asyncio.Event().wait()
            yield each

    def kill(self) -> None:
        self.alive = False

    async def reap(self) -> None:
        self.reaped = True


class NoForks:
    async def start(self) -> None: ...

    async def close(self) -> None: ...


class NoSpare:
    def __init__(self, make: object) -> None: ...

    def start(self) -> None: ...

    def take(self) -> None: ...

    async def close(self) -> None: ...


class Spawner:
    """In place of HandlerProcess: gives what was laid out, or raises it, and good ones after that."""

    def __init__(self, *plan: Any) -> None:
        self.plan = list(plan)
        self.spawned: list[Handler] = []

    async def spawn(
        self, forks: object, settings: ipc.HandlerSettings, warm: ipc.Warm | None = None
    ) -> Handler:
        each = self.plan.pop(0) if self.plan else Handler(ipc.Ready())
        if isinstance(each, Exception):
            raise each
        self.spawned.append(each)
        return each


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def stocked(monkeypatch: pytest.MonkeyPatch, spawner: Spawner, browsers: int | None) -> Pool:
    monkeypatch.setattr(pools, "HandlerProcess", spawner)
    monkeypatch.setattr(pools, "ForkClient", NoForks)
    monkeypatch.setattr(pools, "Spare", NoSpare)
    monkeypatch.setattr(pools, "_RESPAWN_PAUSE_S", 0.0)
    monkeypatch.setattr(pools, "_READY_WITHIN_S", 0.05)
    return Pool(ipc.HandlerSettings("/spool"), browsers=browsers, shape=Shape(), on_log=lambda record: None)


async def in_stock(monkeypatch: pytest.MonkeyPatch, spawner: Spawner) -> Pool:
    pool = stocked(monkeypatch, spawner, 1)
    await pool.start()
    await until(lambda: bool(pool._ready))
    return pool


@pytest.mark.parametrize("bad", [Handler(), Handler("silence"), Handler(ValueError("no message"))])
async def test_a_handler_that_does_not_get_ready_is_reaped_and_replaced(
    monkeypatch: pytest.MonkeyPatch, bad: Handler
) -> None:
    spawner = Spawner(bad)
    pool = await in_stock(monkeypatch, spawner)
    assert (bad.alive, bad.reaped) == (False, True)
    assert pool._ready == [spawner.spawned[1]]
    await pool.close()
    assert spawner.spawned[1].reaped


async def test_a_machine_without_room_for_a_process_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = await in_stock(monkeypatch, Spawner(OSError(11, "no more processes"), OSError(12, "memory")))
    assert len(pool._ready) == 1
    await pool.close()


async def test_one_that_died_while_it_waited_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = await in_stock(monkeypatch, Spawner())
    dead: Any = pool._ready[0]
    dead.alive = False
    assert pool._in_stock() is None
    await until(lambda: dead.reaped and bool(pool._ready))
    await pool.close()


PAGE = Plan("EG_page", WebSource("http://127.0.0.1/"), (), VideoEncoding(1280, 720, 30, 3000, 4.0), None)
LARGE = msgspec.structs.replace(PAGE, video=VideoEncoding(1920, 1080, 30, 3000, 4.0))


async def test_a_browser_waits_after_the_first_page_until_pages_stop_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawner = Spawner(Handler())
    pool = stocked(monkeypatch, spawner, None)
    await pool.start()
    await pool.take(LARGE)  # for which no browser can wait
    assert not pool._ready
    await pool.take(PAGE)
    await until(lambda: bool(pool._ready))
    waiting = spawner.spawned[-1]
    assert await pool.take(PAGE) is waiting
    await until(lambda: bool(pool._ready))
    assert pool._cooling is not None
    assert pool._cooling.when() - asyncio.get_running_loop().time() == pytest.approx(pools.WARM_FOR_S, abs=60)
    pool._cool()
    await until(lambda: not pool._ready)
    await until(lambda: spawner.spawned[-1].reaped)
    await pool.take(PAGE)
    await until(lambda: bool(pool._ready))
    await pool.close()
    assert spawner.spawned[-1].reaped


async def test_no_browser_waits_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = Spawner()
    pool = stocked(monkeypatch, spawner, 0)
    await pool.start()
    await pool.take(PAGE)
    assert (len(spawner.spawned), pool._ready) == (1, [])
    await pool.close()
