"""Who has the floor, over time."""

import pytest

from openegress.source.room.composite.active_speaker import HOLD_S, OVERLAP_S, TAKEOVER_S, ActiveSpeaker, step

ALL = "abc"
T = 10 * HOLD_S
Steps = list[tuple[float, str] | tuple[float, str, str]]
"""(time, who speaks, who may have the floor)."""


@pytest.mark.parametrize(
    ("steps", "focus"),
    [
        pytest.param([(0, "")], "a", id="nobody speaks"),
        pytest.param([(0, "", "ba"), (0.1, "", "ab")], "ba", id="given up to a better one"),
        pytest.param([(0, "", "")], "-", id="nobody there"),
        pytest.param([(0, ""), (0.1, "c")], "ac", id="the first to speak takes it at once"),
        pytest.param(
            [(0, "a"), (T, "b"), (T + TAKEOVER_S - 0.01, "a"), (T + TAKEOVER_S + 0.01, "b")],
            "aaaa",
            id="a cough",
        ),
        pytest.param([(0, "a"), (T, "b"), (T + TAKEOVER_S, "b")], "aab", id="takeover"),
        pytest.param(
            [(0, "a"), (T, "ba"), (T + OVERLAP_S - 0.01, "ba"), (T + OVERLAP_S, "ba")],
            "aaab",
            id="over another",
        ),
        pytest.param(
            [(0, "a"), (T, "b"), (T + 1, "b"), (T + 1.1, "c"), (T + 1.9, "c"), (T + 2, "c")],
            "aabbbc",
            id="held for a while",
        ),
        pytest.param([(0, "a"), (T, "", "bc")], "ab", id="the focus leaves"),
        pytest.param([(0, "a"), (T, "b"), (T + 9, "")], "aaa", id="silence changes nothing"),
        pytest.param([(0, "x"), (1, "x")], "aa", id="a speaker without a tile"),
    ],
)
def test_floor(steps: Steps, focus: str) -> None:
    floor = ActiveSpeaker()
    had = ""
    for at_s, active, *eligible in steps:
        floor = step(floor, active, eligible[0] if eligible else ALL, at_s)
        had += floor.focus or "-"
    assert had == focus


def test_it_says_when_to_look_again() -> None:
    floor = step(ActiveSpeaker(), "a", ALL, 0.0)
    assert floor.recheck_at_s is None
    challenged = step(floor, "b", ALL, T)
    assert challenged.recheck_at_s == T + TAKEOVER_S
    assert step(challenged, "b", ALL, T + TAKEOVER_S).recheck_at_s is None
