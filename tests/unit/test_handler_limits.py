"""When a recording ends by itself: by its length, and by its silence."""

import asyncio

import msgspec
import pytest

from openegress.core.end_rules import EndRules
from openegress.core.events import EndReason, Paused, Resumed
from openegress.core.part import Part
from openegress.core.plan import Plan, WebSource
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.handler.time_limits import TimeLimits

PLAN = Plan(
    egress_id="EG_1",
    source=WebSource("http://e"),
    outputs=(),
    video=None,
    audio=None,
    end_rules=EndRules(max_duration_s=100.0),
)
STORAGE = StoragePlan(LocalStorage("/out"))


class Clock:
    """Instead of an event loop: one timer, and a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.due: tuple[float, EndReason] | None = None

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: object, reason: EndReason) -> "Timer":
        self.due = self.now_s + delay_s, reason
        return Timer(self)


class Timer:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due = clock.due

    def cancel(self) -> None:
        if self._clock.due == self._due:
            self._clock.due = None


async def limits(plan: Plan = PLAN) -> tuple[TimeLimits, Clock]:
    times, clock = TimeLimits(plan, lambda reason: None), Clock()
    times._loop = clock  # type: ignore[assignment]
    times._count_recorded(0.0)
    return times, clock


async def test_a_longer_one_counts_what_is_recorded_already() -> None:
    times, clock = await limits()
    assert clock.due == (1100.0, EndReason.MAX_DURATION)
    clock.now_s = 1040.0
    times.change(EndRules(max_duration_s=300.0))
    assert clock.due == (1300.0, EndReason.MAX_DURATION)
    clock.now_s = 1050.0
    times.note(Paused(1))
    assert clock.due is None
    clock.now_s = 1100.0
    times.change(EndRules(max_duration_s=60.0))
    assert clock.due is None  # nothing is recorded meanwhile
    times.note(Resumed(2))
    assert clock.due == (1110.0, EndReason.MAX_DURATION)


@pytest.mark.parametrize("longest_s", [20.0, 50.0])
async def test_one_that_is_over_already_ends_a_pause_too(longest_s: float) -> None:
    times, clock = await limits()
    clock.now_s = 1050.0
    times.note(Paused(1))
    clock.now_s = 1100.0
    times.change(EndRules(max_duration_s=longest_s))
    assert clock.due is not None and 1100.0 < clock.due[0] < 1100.01
    assert clock.due[1] is EndReason.MAX_DURATION


async def test_what_other_workers_have_recorded_counts_too() -> None:
    """Also for what is asked later; the timeline is that of the part alone."""
    times, clock = await limits(msgspec.structs.replace(PLAN, part=Part(1, 0, recorded_ns=30 * S)))
    assert clock.due == (1070.0, EndReason.MAX_DURATION)
    clock.now_s = 1010.0
    times.change(EndRules(max_duration_s=60.0))
    assert clock.due == (1030.0, EndReason.MAX_DURATION)
    assert (times.recorded_s, times.counted_s, times.is_counting) == (10.0, 40.0, True)
    times.note(Paused(1))
    clock.now_s = 1050.0
    assert (times.counted_s, times.is_counting) == (40.0, False)


async def test_one_that_is_over_already_ends_it_at_once_and_none_never() -> None:
    times, clock = await limits()
    clock.now_s = 1050.0
    times.change(EndRules(max_duration_s=10.0))
    assert clock.due is not None and clock.due[0] < 1050.01
    times.change(EndRules())
    assert clock.due is None


async def test_silence_counts_from_what_was_heard_last() -> None:
    from openegress.handler.silence_limit import SilenceLimit

    over = asyncio.Event()
    limit = SilenceLimit(over.set)
    began_s = asyncio.get_running_loop().time()
    limit.begin(0.2)
    await asyncio.sleep(0.1)
    limit.hearing.last_s += 0.1
    async with asyncio.timeout(5):
        await over.wait()
    assert asyncio.get_running_loop().time() - began_s > 0.28
    limit.begin(0.0)
    assert not limit.hearing.is_on
