"""What of a room's sound is in a recording that is held."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.units import MS, S
from openegress.source.cuts import BLOCK_NS, Cuts
from openegress.source.room.paced_output import PacedOutput, TimeSpent
from openegress.source.room.timeline import RoomTimeline

ZERO_NS = 1_700_000_000 * S


class AlwaysHeard:
    """A compositor whose tracks are heard late, for as long as one likes."""

    def sound(self, block: int) -> bytes:
        return b"\1" * 3840


class Heard:
    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        assert pts_ns == len(self.blocks) * BLOCK_NS
        self.blocks.append(samples)


@pytest.mark.parametrize("kept_ms", [1000, 1001, 1019])
def test_a_hold_is_silent_from_its_first_block_to_its_last(kept_ms: int) -> None:
    timeline, heard = RoomTimeline(), Heard()
    timeline.zero_ns = ZERO_NS
    output = PacedOutput(cast("Any", AlwaysHeard()), None, with_audio=True, tick_ns=40 * MS)
    begin_ns = timeline.hold(ZERO_NS + kept_ms * MS)
    assert 0 <= begin_ns - ZERO_NS - kept_ms * MS < BLOCK_NS
    assert timeline.held_ns == begin_ns
    end_ns = timeline.resume(ZERO_NS + 3001 * MS, ZERO_NS + 3001 * MS)
    assert timeline.held_ns is None
    output.give(
        cast("Any", heard), output.until_end(4 * S), timeline.cuts, timeline.holds, TimeSpent(lambda: 0, 0)
    )
    silent = [n * BLOCK_NS for n, block in enumerate(heard.blocks) if not any(block)]
    assert silent == list(range(begin_ns - ZERO_NS, end_ns - ZERO_NS, BLOCK_NS))
    assert len(heard.blocks) == 4 * S // BLOCK_NS


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=100))
def test_a_hundred_holds_keep_the_length(spans: list[tuple[int, int]]) -> None:
    timeline, at_ms = RoomTimeline(), 0
    for kept_ms, held_ms in spans:
        at_ms += kept_ms
        begin_ns = timeline.hold(at_ms * MS)
        at_ms += held_ms
        assert begin_ns <= timeline.resume(at_ms * MS, at_ms * MS) < at_ms * MS + BLOCK_NS + 1
    assert timeline.cuts == Cuts()
    assert len(timeline.holds.over) == len(spans)
