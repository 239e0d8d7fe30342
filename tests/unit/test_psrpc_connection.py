"""Turns at the connections to Redis."""

import asyncio

import pytest

from openegress.config.settings import Redis
from openegress.core.errors import Code, EgressError
from openegress.core.values import Seconds
from openegress.psrpc.connection import RedisLink


async def test_a_turn_is_waited_for_as_long_as_configured() -> None:
    link = RedisLink(Redis(address="redis:6379", pool_size=1, pool_timeout=Seconds(0.05)))
    free = asyncio.Event()

    async def command(answer: int) -> int:
        await free.wait()
        return answer

    first = asyncio.create_task(link.run(command, 1))
    await asyncio.sleep(0)
    with pytest.raises(EgressError, match=r"redis at redis:6379: all 1 connections are busy") as refused:
        await link.run(command, 2)
    assert refused.value.code is Code.UNAVAILABLE
    free.set()
    assert await first == 1
    assert await link.run(command, 3) == 3
    await link.close()


async def test_without_a_limit_turns_are_waited_for() -> None:
    link = RedisLink(Redis(address="redis:6379", pool_size=1))

    async def command(answer: int) -> int:
        await asyncio.sleep(0.05)
        return answer

    assert await asyncio.gather(*(link.run(command, n) for n in range(3))) == [0, 1, 2]
    await link.close()


async def test_a_cancellation_that_comes_as_a_command_ends_is_kept() -> None:
    """redis-py writes with asyncio.wait_for(), which forgets it before Python 3.12."""
    link = RedisLink(Redis(address="redis:6379"))

    async def write() -> None:
        caller.cancel()

    async def command() -> None:
        await asyncio.wait_for(write(), 10)

    caller = asyncio.create_task(link.run(command))
    with pytest.raises(asyncio.CancelledError):
        await caller
    await link.close()
