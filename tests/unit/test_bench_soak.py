"""What the soak takes for growth, and for drift."""

import math

import pytest

from bench.soak import EDGE_S, STEADY_S, Long, Row, drift_ms, rising
from campaigns.kinds import KINDS

HELD = (72.0, 2, 5, 13, 2, 0, 1, 0)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ([HELD] * 3, []),
        ([(72.4, *HELD[1:])] * 3, []),
        ([(74.0, *HELD[1:])] * 3, ["MiB"]),
        ([(72.0, 3, *HELD[2:])] * 3, ["children"]),
        ([HELD, HELD, (72.0, 3, *HELD[2:])], []),
        ([(72.0, 2, 5, 14, 2, 0, 1, 0), (72.0, 2, 5, 15, 2, 0, 1, 1), HELD], ["files"]),
    ],
)
def test_growth_is_judged(last: list[tuple[float, ...]], found: list[str]) -> None:
    first = [(60.0 + index, 1, index, 3, 1, 0, 0, 0) for index in range(3)]
    rows = [Row(index * 30, values) for index, values in enumerate([*first, *[HELD] * 3, *last])]
    assert [each.partition(":")[0] for each in rising(rows)] == found


def test_columns_may_be_of_any_name() -> None:
    rows = [Row(0, (40.0 + index, 12.0)) for index in range(9)]
    assert [each.partition(":")[0] for each in rising(rows, ("track MiB", "track files"), 1.0)] == [
        "track MiB"
    ]


@pytest.mark.parametrize(("later_ms", "each_s_ms"), [(0.0, 0.0), (30.0, 0.0), (0.0, 0.05), (-480.0, 0.2)])
def test_drift_is_what_the_end_is_later_than_the_begin(later_ms: float, each_s_ms: float) -> None:
    """Whatever both are late; beeps that are late by more than half a second are those of the next second."""
    active_s, stopped_s = 1000.0, 1000.0 + 600
    late = [(active_s + second, (later_ms + second * each_s_ms + 500) % 1000 - 500) for second in range(600)]
    between_s = 600 - EDGE_S / 2 - (STEADY_S + EDGE_S / 2)
    assert drift_ms(late, active_s, stopped_s) == pytest.approx(between_s * each_s_ms, abs=0.2)


def test_where_there_is_nothing_at_an_end_drift_has_no_bound() -> None:
    assert drift_ms([(1030.0, 0.0)], 1000.0, 1600.0) == math.inf


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, ""),
        ({"missing": 3, "dropped": 3}, ""),
        ({"missing": 4, "dropped": 3}, "4 pictures missing"),
        ({"silent_s": 0.3}, "silent for 0.30 s"),
        ({"frozen_s": 0.5}, "frozen for 0.50 s"),
        ({"short_s": 2.0}, "2.0 s short"),
        ({"drifts_ms": (5.0, 6.0)}, ""),
        ({"drifts_ms": (15.0, -15.0)}, "drift of +15 and -15 ms"),
        ({"error": "no picture"}, "no picture"),
    ],
)
def test_a_long_recording_is_judged(changed: dict[str, object], fault: str) -> None:
    faults = Long(KINDS[0], **changed).faults()  # type: ignore[arg-type]
    assert len(faults) == bool(fault)
    assert all(fault in each for each in faults)
