"""Starts that wait: order, room, limits."""

import asyncio
from functools import partial

import pytest

from openegress.api import start_queue
from openegress.api.start_queue import StartQueue
from openegress.core.errors import Code, EgressError


class Workers:
    """Room for so many; the order in which starts were let in."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.let_in: list[str] = []

    async def start(self, name: str) -> str:
        if self.room <= 0:
            raise EgressError(Code.RESOURCE_EXHAUSTED, "not enough CPU")
        self.room -= 1
        self.let_in.append(name)
        return name


async def spin() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    queue, workers = StartQueue(3, 60), Workers(1)
    assert await queue.place(lambda: workers.start("a")) == "a"
    waiting = []
    for name in "bcd":
        waiting.append(asyncio.ensure_future(queue.place(partial(workers.start, name))))
        await spin()
    assert queue.waiting == 3
    with pytest.raises(EgressError) as refused:
        await queue.place(lambda: workers.start("e"))
    assert refused.value.code is Code.UNAVAILABLE
    assert refused.value.message == "not enough CPU; the queue is full, 3 starts are waiting already"
    workers.room = 2
    queue.freed()
    await spin()
    assert workers.let_in == ["a", "b", "c"]
    workers.room = 1
    queue.freed()
    assert await asyncio.gather(*waiting) == ["b", "c", "d"]
    assert queue.waiting == 0


async def test_it_asks_again_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_queue, "RETRY_S", 0.01)
    queue, workers = StartQueue(1, 60), Workers(0)
    waiting = asyncio.ensure_future(queue.place(lambda: workers.start("a")))
    await spin()
    workers.room = 1
    assert await waiting == "a"


async def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_queue, "RETRY_S", 0.01)
    queue, workers = StartQueue(2, 0.05), Workers(0)
    both = await asyncio.gather(
        queue.place(lambda: workers.start("a")),
        queue.place(lambda: workers.start("b")),
        return_exceptions=True,
    )
    for error in both:
        assert isinstance(error, EgressError)
        assert error.message == "not enough CPU; it has waited 0.05 s in the queue"
    assert queue.waiting == 0


async def test_who_goes_away_makes_room() -> None:
    queue, workers = StartQueue(2, 60), Workers(0)
    first = asyncio.ensure_future(queue.place(lambda: workers.start("a")))
    await spin()
    second = asyncio.ensure_future(queue.place(lambda: workers.start("b")))
    await spin()
    workers.room = 1
    first.cancel()
    assert await second == "b"


async def test_without_a_queue_a_refusal_is_a_refusal() -> None:
    queue, workers = StartQueue(0, 60), Workers(0)
    with pytest.raises(EgressError, match=r"^not enough CPU$"):
        await queue.place(lambda: workers.start("a"))


async def test_what_is_wrong_with_a_request_does_not_wait() -> None:
    async def bad() -> str:
        raise EgressError(Code.INVALID_ARGUMENT, "no output")

    with pytest.raises(EgressError, match="no output"):
        await StartQueue(5, 60).place(bad)
