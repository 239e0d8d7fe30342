"""Sound and pictures of a source that goes on while its recording is paused."""

import struct
from dataclasses import dataclass, field

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.pause_mode import PauseMode
from openegress.core.units import MS, S
from openegress.source.cuts import BLOCK_NS
from openegress.source.pause_timeline import PausedSound, PauseTimeline

RATES = (1000, 1150)
"""Whole samples in a block, as rates of sound have; few, so that each can be looked at."""
Pauses = list[tuple[int, int]]
PAUSES = st.lists(st.tuples(st.integers(1, 700), st.integers(0, 900)), max_size=6)
"""(after how long, for how long) in ms."""


@dataclass
class Heard:
    """Samples that say when they were made: each is its number in the source."""

    numbers: list[int] = field(default_factory=list)
    times: list[tuple[int, int]] = field(default_factory=list)
    """(pts, samples before)."""
    resumed_at: list[tuple[int, int]] = field(default_factory=list)

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None: ...

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        assert samples
        assert pts_ns == len(self.numbers) * S // sample_rate
        self.numbers += [number for (number,) in struct.iter_unpack("<I", samples)]

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self.resumed_at.append((pts_ns, paused_ns))


def play(
    pauses: Pauses, mode: PauseMode, rate: int, sizes: list[int], late_ns: int = 0
) -> tuple[Heard, PauseTimeline]:
    """Feeds numbered samples in blocks of `sizes`, each block `late_ns` after it was made."""
    timeline, heard = PauseTimeline(), Heard()
    sink = PausedSound(heard, timeline)
    orders, at_ns = [], 0
    for after_ms, for_ms in pauses:
        orders += [(at_ns + after_ms * MS, True), (at_ns + (after_ms + for_ms) * MS, False)]
        at_ns += (after_ms + for_ms) * MS
    end, number, turn = (at_ns + S) * rate // S, 1, 0
    while number < end:
        size = sizes[turn % len(sizes)]
        turn += 1
        while orders and orders[0][0] <= (number - 1 + size) * S // rate + late_ns:
            order_ns, begins = orders.pop(0)
            if begins:
                timeline.begin(order_ns, mode)
            else:
                timeline.pauses = timeline.ended(order_ns)
        block = struct.pack(f"<{size}I", *range(number, number + size))
        sink.audio(block, (number - 1) * S // rate, rate)
        number += size
    return heard, timeline


@pytest.mark.parametrize("rate", RATES)
@given(pauses=PAUSES, sizes=st.lists(st.integers(7, 40), min_size=1, max_size=3), late_ms=st.integers(0, 80))
def test_a_cut_leaves_out_its_samples_and_no_other(
    rate: int, pauses: Pauses, sizes: list[int], late_ms: int
) -> None:
    heard, timeline = play(pauses, PauseMode.CUT, rate, sizes, late_ms * MS)
    wanted = [n for n in range(1, heard.numbers[-1] + 1) if not _is_paused((n - 1) * S / rate, timeline)]
    assert heard.numbers == wanted


@pytest.mark.parametrize("rate", RATES)
@given(pauses=PAUSES, sizes=st.lists(st.integers(7, 40), min_size=1, max_size=3))
def test_a_held_pause_is_silent_and_as_long(rate: int, pauses: Pauses, sizes: list[int]) -> None:
    heard, timeline = play(pauses, PauseMode.HOLD, rate, sizes, 20 * MS)
    for index, number in enumerate(heard.numbers):
        assert number == (0 if _is_paused(index * S / rate, timeline) else index + 1)


def _is_paused(at_ns: float, timeline: PauseTimeline) -> bool:
    # Edges are at whole samples; half a sample is rounding.
    return any(
        begin - 1 <= at_ns and (end is None or at_ns < end - 1) for begin, end in timeline.pauses.ranges
    )


def test_what_was_given_before_a_pause_was_known_is_made_up_for_behind_it() -> None:
    """Sound that ran a little ahead: the timeline keeps its length, and has no hole."""
    timeline, heard = PauseTimeline(), Heard()
    sink, rate = PausedSound(heard, timeline), 48_000
    block = [struct.pack("<960I", *range(n, n + 960)) for n in range(0, 9_600, 960)]
    for data in block[:3]:
        sink.audio(data, 0, rate)
    timeline.begin(2 * BLOCK_NS, PauseMode.CUT)  # a block too late
    for data in block[3:5]:
        sink.audio(data, 0, rate)
    timeline.pauses = timeline.ended(5 * BLOCK_NS)
    for data in block[5:8]:
        sink.audio(data, 0, rate)
    assert heard.numbers == [*range(3 * 960), *range(6 * 960, 8 * 960)]
    assert timeline.left_out_ns == 3 * BLOCK_NS
    assert timeline.recorded_ns(8 * BLOCK_NS) * rate // S == len(heard.numbers)


def test_a_hold_leaves_nothing_out() -> None:
    timeline = PauseTimeline()
    begun_ns = timeline.begin(S + 1, PauseMode.HOLD)
    assert begun_ns == timeline.begins_ns == S + BLOCK_NS
    assert timeline.recorded_ns(3 * S) == 3 * S
    timeline.pauses = timeline.ended(2 * S)
    assert (timeline.begins_ns, timeline.left_out_ns) == (None, 0)
