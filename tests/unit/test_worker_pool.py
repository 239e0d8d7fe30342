"""Handlers in stock, of processes that only pretend."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from openegress.core import ipc
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


async def in_stock(monkeypatch: pytest.MonkeyPatch, spawner: Spawner) -> Pool:
    monkeypatch.setattr(pools, "HandlerProcess", spawner)
    monkeypatch.setattr(pools, "ForkClient", NoForks)
    monkeypatch.setattr(pools, "_RESPAWN_PAUSE_S", 0.0)
    monkeypatch.setattr(pools, "_READY_WITHIN_S", 0.05)
    pool = Pool(ipc.HandlerSettings("/spool"), browsers=1, shape=Shape(), on_log=lambda record: None)
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
