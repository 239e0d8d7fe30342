"""How fast a handler's messages are read: they share the service's event loop with all others."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import cast

import pytest

from openegress.core import ipc
from openegress.core.events import Progress
from openegress.worker.fork_client import lines_of
from openegress.worker.listening import listen
from openegress.worker.process import HandlerProcess

SAID = Progress(1, 1, 1, 0, 1)
COST_S = 0.001


class Speaker:
    """All that it says is there at once, as in a full buffer."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def messages(self) -> AsyncIterator[ipc.ToWorker]:
        for _ in range(self._count):
            yield SAID


class Clock:
    """CPU time passes where a message is handled, and time where somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu_s = 0.0
        self.slept_s: list[float] = []
        self._sleep = asyncio.sleep
        monkeypatch.setattr(time, "thread_time", lambda: self.cpu_s)
        monkeypatch.setattr(time, "monotonic_ns", lambda: round((1 + sum(self.slept_s)) * 1e9))
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await self._sleep(0)


async def heard(count: int, clock: Clock) -> int:
    found = 0
    async for message in listen(cast("HandlerProcess", Speaker(count)), "EG_1"):
        assert message is SAID
        clock.cpu_s += COST_S
        found += 1
    return found


async def test_a_handler_that_speaks_without_end_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert await heard(5000, clock) == 5000, "nothing is lost"
    spent_s = 5000 * (COST_S + 0.00005)
    assert sum(clock.slept_s) == pytest.approx((spent_s - 1.0) / 0.1, abs=0.1)


async def test_a_burst_is_read_at_once_and_leaves_the_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    assert await heard(900, clock) == 900
    assert set(clock.slept_s) == {0} and len(clock.slept_s) == pytest.approx(900 * COST_S / 0.01, rel=0.1)


async def test_so_does_one_that_writes_lines_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """To its standard error: 8,192 of them at a time."""
    clock = Clock(monkeypatch)
    reader = asyncio.StreamReader()
    reader.feed_data(b"\n" * 8192 * 50)
    reader.feed_eof()
    count = 0
    async for _ in lines_of(reader):
        count += 1
        clock.cpu_s += 0.05 / 8192
    assert count == 8192 * 50
    assert sum(clock.slept_s) == pytest.approx((50 * 0.05 - 1.0) / 0.1, abs=1)
    assert clock.slept_s.count(0) >= 15
