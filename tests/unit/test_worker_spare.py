"""The handler that waits for the next request, of processes that only pretend."""

import asyncio
from typing import Any

import pytest

from openegress.worker import spare as spares
from openegress.worker.spare import Spare


class Waiter:
    ended = "killed by SIGKILL"

    def __init__(self) -> None:
        self.alive = True
        self.reaped = asyncio.Event()

    def kill(self) -> None:
        self.alive = False

    async def reap(self) -> None:
        self.reaped.set()


class Machine:
    """Makes them as long as there is room."""

    def __init__(self) -> None:
        self.has_room = True
        self.made: list[Waiter] = []
        self.asked = asyncio.Queue[None]()

    async def make(self) -> Any:
        self.asked.put_nowait(None)
        if not self.has_room:
            raise OSError(11, "no more processes")
        self.made.append(Waiter())
        return self.made[-1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(spares, "_PAUSE_S", 0.0)
    return Machine()


async def begun(machine: Machine) -> Spare:
    spare = Spare(machine.make)
    spare.start()
    await asked(machine)
    return spare


async def asked(machine: Machine) -> None:
    async with asyncio.timeout(5):
        await machine.asked.get()
    await asyncio.sleep(0)  # whoever asked goes on


async def test_one_waits_and_another_takes_its_place(machine: Machine) -> None:
    spare = await begun(machine)
    first = spare.take()
    assert first is not None and first is machine.made[0]
    assert spare.take() is None  # there is no time for another yet
    await asked(machine)
    assert spare.take() is machine.made[1]
    await asked(machine)
    await spare.close()
    assert [waiter.reaped.is_set() for waiter in machine.made] == [False, False, True]
    assert not machine.made[2].alive


async def test_one_that_died_while_it_waited_is_reaped_and_not_handed_out(machine: Machine) -> None:
    spare = await begun(machine)
    machine.made[0].kill()
    assert spare.take() is None
    await asked(machine)
    assert machine.made[0].reaped.is_set()
    assert spare.take() is machine.made[1]
    await spare.close()


async def test_a_machine_without_room_is_asked_again_with_the_next_request(machine: Machine) -> None:
    machine.has_room = False
    spare = await begun(machine)
    assert machine.asked.empty()
    machine.has_room = True
    assert spare.take() is None
    await asked(machine)
    assert spare.take() is machine.made[0]
    await spare.close()
