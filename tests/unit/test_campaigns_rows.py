"""What campaigns write of what they measured: rows, and what is a fault."""

import pytest

from campaigns import kills, network
from campaigns.kills import Kill, Victim
from campaigns.kinds import KINDS
from campaigns.network import CONDITIONS, MEDIA, ORDER, Cell
from campaigns.page import rows_of
from testkit.udp_relay import Leg

VP8, OPUS = MEDIA[0], MEDIA[4]


@pytest.mark.parametrize(
    ("cell", "faults"),
    [
        (Cell(VP8, frozen_s=0.1, late_ms=9.0, av_ms=-20.0), []),
        (Cell(OPUS, silent_s=0.1, late_ms=9.0), []),
        (Cell(OPUS, silent_s=0.1), ["no beep to measure by"]),
        (Cell(VP8, late_ms=9.0), ["no beep to measure by"]),
        (Cell(VP8, undecodable=2, frozen_s=0.1, late_ms=9.0, av_ms=0.0), ["2 undecodable"]),
        (
            Cell(VP8, frozen_s=0.9, silent_s=0.2, late_ms=9.0, av_ms=0.0),
            ["frozen for 0.90 s", "silent for 0.20 s"],
        ),
        (Cell(VP8, frozen_s=0.1, short_s=1.6, late_ms=9.0, av_ms=-81.0), ["1.6 s short", "A/V -81 ms"]),
        (Cell(VP8, error="EGRESS_FAILED: no path", undecodable=3), ["EGRESS_FAILED: no path"]),
    ],
)
def test_a_cell_is_held_against_its_condition(cell: Cell, faults: list[str]) -> None:
    condition = CONDITIONS[0]
    assert cell.faults(condition) == faults
    line = network.row(condition, cell)
    assert list(rows_of(line, 3)) == [(condition.leg.value, condition.name, cell.medium.name)]
    assert all(each in line for each in faults)
    heading = next(each for each in network.head().splitlines() if each.startswith("| leg"))
    assert line.count("|") == heading.count("|")


def test_every_cell_has_a_row_of_its_own() -> None:
    assert len(set(ORDER)) == len(CONDITIONS) * len(MEDIA)
    assert {leg for leg, _, _ in ORDER} == {each.value for each in Leg}


def test_kills_are_counted_by_what_they_cost() -> None:
    kind = KINDS[0]
    found = [Kill(kind, Victim.HANDLER, 9.0, lost_s) for lost_s in (0.2, 0.25, 0.4, 0.9, 1.2, 3.0)]
    line = kills.row(kind, Victim.HANDLER, found)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:5] == [kind.name, "handler", "6", "0.65", "**3.00**"]
    assert [int(cell.split()[-1]) if cell else 0 for cell in cells[5:]] == [2, 1, 1, 1, 0, 1]
    heading = next(each for each in kills.head().splitlines() if each.startswith("| kind"))
    assert line.count("|") == heading.count("|")
