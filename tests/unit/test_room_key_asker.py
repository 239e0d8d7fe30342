"""When a key service is asked, and how often whoever brings it about."""

import asyncio
from collections.abc import Callable

import pytest

from openegress.core.errors import Code, EgressError
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey
from openegress.room import key_asker
from openegress.room.key_asker import QUESTIONS, RETRY_BACKOFF, SOON_S, KeyAsker

KEY = RoomKey(0, b"of all")


class Script:
    """A key service that answers what it is told, on a clock of its own making."""

    def __init__(self, clock: "SteppedLoop", answer: Callable[[KeyQuestion], KeyAnswer]) -> None:
        self.clock = clock
        self.asked: list[tuple[float, KeyQuestion]] = []
        self.taken: list[KeyAnswer] = []
        self.told: list[str] = []
        self.locked: frozenset[str] = frozenset()
        self._answer = answer
        self.asker = KeyAsker(self, self.taken.append, self.told.append, lambda: self.locked)

    async def ask(self, question: KeyQuestion) -> KeyAnswer:
        self.asked.append((self.clock.time(), question))
        return self._answer(question)

    @property
    def times(self) -> list[float]:
        return [at_s for at_s, _ in self.asked]


class SteppedLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is left to do, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@pytest.fixture
def clock() -> SteppedLoop:
    return SteppedLoop()


def run(
    clock: SteppedLoop, answer: Callable[[KeyQuestion], KeyAnswer], act: Callable[[Script], object]
) -> Script:
    """`act` may be a coroutine function."""

    async def go() -> Script:
        script = Script(clock, answer)
        acted = act(script)
        if asyncio.iscoroutine(acted):
            await acted
        await script.asker.close()
        return script

    try:
        return clock.run_until_complete(go())
    finally:
        clock.close()


def no_keys(_: KeyQuestion) -> KeyAnswer:
    return KeyAnswer()


def failing(_: KeyQuestion) -> KeyAnswer:
    raise EgressError(Code.UNAVAILABLE, "it answers 503")


def test_all_who_are_seen_at_once_are_one_question(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        assert script.asker.want("ben") and script.asker.want("ann") and script.asker.want("ann")
        await asyncio.sleep(10)

    script = run(clock, lambda _: KeyAnswer((KEY,)), act)
    assert script.asked == [(1000.0, KeyQuestion(("ann", "ben")))]
    assert (script.taken, script.told) == ([KeyAnswer((KEY,))], [""])


def test_a_question_names_the_index_that_is_missing(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        script.asker.want("ann", 3)
        await asyncio.sleep(5)
        script.asker.want("ann", 4)
        script.asker.want("ben")
        await asyncio.sleep(5)

    script = run(clock, no_keys, act)
    assert [question for _, question in script.asked] == [
        KeyQuestion(("ann",), 3),
        KeyQuestion(("ann", "ben")),
    ]


def test_who_goes_on_with_wrong_keys_is_asked_about_less_and_less(clock: SteppedLoop) -> None:
    awaited = []

    async def act(script: Script) -> None:
        for _ in range(600):
            awaited.append(script.asker.want("mallory", 7))
            await asyncio.sleep(1)

    script = run(clock, no_keys, act)
    gaps = [after - before for before, after in zip(script.times, script.times[1:], strict=False)]
    assert script.times[0] == 1000.0 and gaps[0] <= SOON_S
    assert max(gaps) <= RETRY_BACKOFF.ceiling_s + 1 and len(script.times) < 60
    assert awaited[0] and not all(awaited), "her frames count as lost meanwhile"


def test_a_room_asks_only_so_often(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        for number in range(400):
            script.asker.want(f"guest {number}")
            await asyncio.sleep(0.1)

    script = run(clock, no_keys, act)
    assert len(script.times) <= QUESTIONS.burst + 40 * QUESTIONS.per_s + 1


def test_who_has_no_key_is_asked_about_again(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        script.locked = frozenset({"ann"})
        script.asker.want("ann")
        await asyncio.sleep(30)
        asked = len(script.asked)
        assert asked >= 3
        script.locked = frozenset()
        await asyncio.sleep(300)
        assert len(script.asked) <= asked + 1

    run(clock, no_keys, act)


def test_a_service_that_fails_is_left_alone_for_a_moment(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        assert script.asker.want("ann")
        await asyncio.sleep(1)
        assert script.told == ["it answers 503"]
        assert not script.asker.want("ann"), "nothing is awaited: what is locked is told"
        await asyncio.sleep(key_asker.AFTER_FAILURE_S)
        assert script.asker.want("ann")
        await asyncio.sleep(1)

    assert len(run(clock, failing, act).asked) == 2


def test_keys_are_made_anew_when_the_service_said_so(clock: SteppedLoop) -> None:
    async def act(script: Script) -> None:
        script.asker.want("ann")
        await asyncio.sleep(95)

    script = run(clock, lambda _: KeyAnswer((KEY,), refresh_s=30.0), act)
    assert [round(at_s) for at_s in script.times] == [1000, 1030, 1060, 1090]
    assert {question for _, question in script.asked} == {KeyQuestion(("ann",))}
