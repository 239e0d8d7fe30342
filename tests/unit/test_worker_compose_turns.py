"""Who composes, who waits, and what those who compose know of them."""

from openegress.core import ipc
from openegress.core.codecs import EncoderSpeed
from openegress.handler.compose_turn import ComposeTurn
from openegress.worker.compose_turns import ComposePlace, ComposeTurns


class Queue:
    def __init__(self, most: int) -> None:
        self.turns = ComposeTurns(most)
        self.told: dict[str, list[int]] = {}

    def ask(self, name: str) -> ComposePlace:
        place, told = self.turns.place(), self.told.setdefault(name, [])
        place.ask(told.append)
        return place


def test_those_that_came_first_go_first() -> None:
    queue = Queue(2)
    first, _, third, _ = (queue.ask(name) for name in "abcd")
    assert queue.told == {"a": [0, 1], "b": [0, 1], "c": [], "d": []}
    first.leave()
    assert queue.told == {"a": [0, 1], "b": [0, 1], "c": [1], "d": []}
    third.leave()
    assert queue.told == {"a": [0, 1], "b": [0, 1, 0], "c": [1], "d": [0]}


def test_who_waits_may_leave() -> None:
    queue = Queue(1)
    first, second = queue.ask("a"), queue.ask("b")
    second.leave()
    first.leave()
    queue.turns.place().leave()
    assert queue.told == {"a": [0, 1, 0], "b": []}


def test_a_place_is_asked_for_once() -> None:
    queue = Queue(1)
    place = queue.ask("a")
    place.ask(queue.told["a"].append)
    assert queue.told == {"a": [0]}


async def test_the_more_wait_the_quicker_each_is_composed() -> None:
    asked: list[ipc.AskTurn] = []
    turn = ComposeTurn(asked.append)
    speeds = []
    for behind in range(5):
        turn.give(behind)
        speeds.append(turn.speed)
    await turn.wait()
    assert len(asked) == 1
    assert speeds == [
        EncoderSpeed.FAST,
        EncoderSpeed.VERYFAST,
        EncoderSpeed.SUPERFAST,
        EncoderSpeed.ULTRAFAST,
        EncoderSpeed.ULTRAFAST,
    ]
