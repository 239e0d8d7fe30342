"""What was asked of a recording while it ran, as a worker that takes it over gets it."""

import json

import msgspec
import pytest

from openegress.core.end_rules import EndRules
from openegress.core.layout_spec import LayoutSpec
from openegress.core.live_state import LiveState
from openegress.core.looks import Looks
from openegress.core.plan import LayoutSource, Plan, Source, TracksSource, WebSource
from openegress.core.routes import DataRoute
from openegress.core.sidecars import Sidecar
from openegress.core.units import S
from openegress.request.live_state import as_asked, as_shown, live_state
from openegress.source.room.open import is_observed

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


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("speaker-\ud800", "speaker"), ("x" * 100_000, "grid"), ("stage", "stage"), ("", "")],
    ids=["no text", "long", "own", "default"],
)
def test_what_a_layout_stands_for_is_passed_on_whatever_it_is_called(asked: str, shown: str) -> None:
    """Who takes a recording over is told of it in UTF-8, and not at any length."""
    room = msgspec.structs.replace(ROOM, specs=(LayoutSpec("stage", ()),))
    found = as_shown(Plan("EG_1", room, (), None, None), json.dumps({"layout": asked}))
    live = live_state(found, 0, 0, is_counting=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(live), type=LiveState).layout == shown


@pytest.mark.parametrize(("is_counting", "found_s"), [(True, 12), (False, 7)])
def test_what_counts_goes_on_unless_it_is_paused(is_counting: bool, found_s: int) -> None:
    live = LiveState(100 * S, 7 * S, is_counting, EndRules(), Looks())
    assert live.recorded_until_ns(105 * S) == found_s * S
    assert live.recorded_until_ns(99 * S) == 7 * S, "clocks of two machines differ"


@pytest.mark.parametrize(
    ("source", "resumes", "sidecars", "is_wanted"),
    [
        (ROOM, True, (), True),
        (ROOM, False, (), False),
        (ROOM, False, (Sidecar.EVENTS,), True),
        (TracksSource("r", "ws://h", "t"), True, (), False),
        (TracksSource("r", "ws://h", "t", data=(DataRoute(),)), False, (), True),
    ],
)
def test_a_layout_that_is_asked_for_in_the_room_is_observed_where_somebody_may_go_on(
    source: Source, resumes: bool, sidecars: tuple[Sidecar, ...], is_wanted: bool
) -> None:
    plan = Plan("EG_1", source, (), None, None, resumes=resumes, sidecars=sidecars)
    assert is_observed(plan) == is_wanted
