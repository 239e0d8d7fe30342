"""Requests sent again: joined, remembered for a while, forgotten in time."""

import asyncio

import pytest
from livekit.protocol.egress import EgressInfo

from openegress.api import idempotent_calls
from openegress.api.idempotent_calls import IdempotentCalls


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Calls:
    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()

    async def __call__(self) -> EgressInfo:
        self.count += 1
        number = self.count
        await self.go.wait()
        return EgressInfo(egress_id=str(number))


async def test_answers_are_shared_and_forgotten() -> None:
    clock, calls = Clock(), Calls()
    kept = IdempotentCalls(clock)
    both = asyncio.gather(kept.answer(("a",), calls), kept.answer(("a",), calls))
    await asyncio.sleep(0)
    calls.go.set()
    first, second = await both
    assert first is second
    clock.now_s = idempotent_calls.KEPT_S - 1
    assert await kept.answer(("a",), calls) is first
    clock.now_s = idempotent_calls.KEPT_S + 1
    assert await kept.answer(("a",), calls) is not first
    await kept.close()
    assert calls.count == 2


async def test_no_more_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_calls, "KEPT_AT_MOST", 3)
    kept, calls = IdempotentCalls(Clock()), Calls()
    calls.go.set()
    for number in range(10):
        await kept.answer((str(number),), calls)
    await kept.answer(("9",), calls)
    assert calls.count == 10
    await kept.answer(("0",), calls)
    assert calls.count == 11


async def test_close_waits_for_calls_nobody_waits_for() -> None:
    kept, calls = IdempotentCalls(), Calls()
    waiting = asyncio.ensure_future(kept.answer(("a",), calls))
    await asyncio.sleep(0)
    waiting.cancel()
    closing = asyncio.ensure_future(kept.close())
    await asyncio.sleep(0)
    assert not closing.done()
    calls.go.set()
    await closing
    assert calls.count == 1


async def test_failures_are_not_kept() -> None:
    kept = IdempotentCalls(Clock())

    async def refuse() -> EgressInfo:
        raise ValueError("no")

    for number in range(5):
        with pytest.raises(ValueError, match="no"):
            await kept.answer((str(number),), refuse)
    calls = Calls()
    calls.go.set()
    answer = await kept.answer(("0",), calls)
    assert answer.SerializeToString()
    assert await kept.answer(("0",), refuse) is answer


async def test_answers_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotent_calls, "KEPT_BYTES", 25_000)
    kept, calls = IdempotentCalls(Clock()), 0

    async def large() -> EgressInfo:
        nonlocal calls
        calls += 1
        return EgressInfo(error="a" * 10_000)

    for number in range(10):
        await kept.answer((str(number),), large)
    for number in (9, 8):
        await kept.answer((str(number),), large)
    assert calls == 10
    # Three would be more than 25,000 bytes.
    await kept.answer(("7",), large)
    assert calls == 11
