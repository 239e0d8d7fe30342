"""What was asked of a recording while it ran, as a worker that takes it over gets it."""

import msgspec
import pytest

from openegress.core.end_rules import EndRules
from openegress.core.live_state import LiveState
from openegress.core.looks import Looks
from openegress.core.plan import LayoutSource, Plan, Source, WebSource
from openegress.core.units import S
from openegress.request.live_state import as_asked, as_shown, live_state

ROOM = LayoutSource("r", "grid", "ws://h", "t")


@pytest.mark.parametrize("source", [ROOM, WebSource("http://e")])
def test_a_plan_gets_all_that_was_asked_of_it(source: Source) -> None:
    plan = Plan("EG_1", source, (), None, None, end_rules=EndRules(max_duration_s=5.0, start_timeout_s=3.0))
    asked = as_shown(plan, '{"layout": "speaker?text=Part%202"}')
    asked = msgspec.structs.replace(asked, end_rules=EndRules(max_size_bytes=7, stop_when_empty_s=9.0))
    assert asked.looks == Looks(text="Part 2")
    live = live_state(asked, 0, 0, is_counting=True)
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(live), type=LiveState)
    assert as_asked(plan, travelled) == asked
    assert as_asked(plan, live_state(plan, 0, 0, is_counting=True)) == plan


@pytest.mark.parametrize(("is_counting", "found_s"), [(True, 12), (False, 7)])
def test_what_counts_goes_on_unless_it_is_paused(is_counting: bool, found_s: int) -> None:
    live = LiveState(100 * S, 7 * S, is_counting, EndRules(), Looks())
    assert live.recorded_until_ns(105 * S) == found_s * S
    assert live.recorded_until_ns(99 * S) == 7 * S, "clocks of two machines differ"
