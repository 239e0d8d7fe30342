"""When a process counts as no longer alive."""

import asyncio
from collections.abc import Collection

import pytest

from openegress.app.liveness import BEATS, LATE_S, EventLoop, lagging
from openegress.core.tasks import stopped
from openegress.store.heartbeat import Heartbeat
from openegress.store.leases import MemoryLeases


@pytest.mark.parametrize(
    ("late_s", "is_lagging"),
    [
        ([], False),
        ([0.0] * BEATS, False),
        ([60.0], False),
        ([60.0] * (BEATS - 1) + [0.1], False),
        ([0.1, *[LATE_S] * BEATS], True),
        ([LATE_S + 1] * BEATS, True),
        ([LATE_S + 1] * BEATS + [0.0], False),
    ],
)
def test_a_loop_is_lagging_when_all_its_newest_turns_are_late(late_s: list[float], is_lagging: bool) -> None:
    assert (lagging(late_s) is not None) is is_lagging


async def test_a_loop_that_turns_is_well() -> None:
    loop = EventLoop()
    assert await loop.check() is None
    loop.start()
    await asyncio.sleep(0)
    assert await loop.check() is None
    await loop.close()
    assert await loop.check() is None


async def test_a_task_is_missed_when_it_ends_by_itself() -> None:
    async def fail() -> None:
        raise ValueError("s3cret")

    assert stopped(None) is None
    running = asyncio.create_task(asyncio.sleep(60))
    assert stopped(running) is None
    running.cancel()
    done = [asyncio.create_task(fail(), name="beat"), asyncio.create_task(asyncio.sleep(0), name="round")]
    await asyncio.wait([running, *done])
    assert stopped(running) is None
    assert stopped(done[0]) == "its task beat failed (ValueError): restart this process"
    assert stopped(done[1]) == "its task round ended: restart this process"


async def test_a_heartbeat_goes_on_after_a_mistake() -> None:
    beats: asyncio.Queue[None] = asyncio.Queue()
    mistakes = [KeyError("a mistake of ours")]

    def running() -> Collection[str]:
        beats.put_nowait(None)
        if mistakes:
            raise mistakes.pop()
        return ()

    heartbeat = Heartbeat(MemoryLeases(), "NE_1", running)
    heartbeat.start()
    async with asyncio.timeout(10):
        await beats.get()
        heartbeat.wake()
        await beats.get()
    assert await heartbeat.stopped() is None
    await heartbeat.close()
