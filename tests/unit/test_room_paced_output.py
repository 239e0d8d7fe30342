"""How far a room's pictures fall behind where they take longer than there is time for."""

from typing import Any, cast

import pytest

from openegress.core.units import MS, S
from openegress.source.cuts import Cuts
from openegress.source.room.clock import MAX_BEHIND_NS
from openegress.source.room.paced_output import PacedOutput, TimeSpent

FPS = 30


class Busy:
    """A compositor and a sink on a machine that takes `cost_ns` for each picture."""

    def __init__(self, cost_ns: int) -> None:
        self.now_ns = 0
        self.cost_ns = cost_ns
        self.lags_ns: list[int] = []

    def complete_ns(self, now_ns: int) -> int:
        return now_ns

    def picture(self, at_ns: int) -> None:
        self.lags_ns.append(self.now_ns - at_ns)

    def video(self, frame: None, pts_ns: int) -> None:
        self.now_ns += self.cost_ns


@pytest.mark.parametrize("cost_ms", [20, 40, 80, 200])
@pytest.mark.parametrize("stall_ms", [0, 400, 900])
def test_no_picture_is_given_out_a_second_late(cost_ms: int, stall_ms: int) -> None:
    busy = Busy(cost_ms * MS)
    output = PacedOutput(cast("Any", busy), FPS, with_audio=False, tick_ns=S // FPS)
    cuts, stalled_s = Cuts(), 0
    while busy.now_ns < 30 * S:
        busy.now_ns += S // FPS
        if busy.now_ns // (5 * S) > stalled_s:
            stalled_s += 1
            busy.now_ns += stall_ms * MS
        until_ns = output.until_ns(busy.now_ns, busy.now_ns, cuts)
        spent = TimeSpent(lambda: busy.now_ns, busy.now_ns)
        output.give(cast("Any", busy), until_ns, cuts, cuts, spent)
    assert busy.lags_ns and max(busy.lags_ns) <= MAX_BEHIND_NS
    if cost_ms == 20 and stall_ms <= 400:
        assert output.left_out == 0
