"""Property: what a recording with pauses keeps is what was not paused, in order and without a hole."""

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.units import MS, S
from openegress.source.cuts import BLOCK_NS, Cuts

LENGTHS = st.lists(st.tuples(st.integers(0, 10 * S), st.integers(0, 3600 * S)), max_size=100)
"""(recorded before it, length) of pauses."""


def paused(lengths: list[tuple[int, int]]) -> tuple[Cuts, list[tuple[int, int]]]:
    """With the pauses as they were asked for."""
    cuts, at_ns, asked = Cuts(), 0, []
    for kept_ns, length_ns in lengths:
        begin_ns = at_ns + kept_ns
        at_ns = begin_ns + length_ns
        cuts = cuts.begun(begin_ns).ended(at_ns)
        asked.append((begin_ns, at_ns))
    return cuts, asked


@given(LENGTHS, st.integers(0, 1000 * S))
def test_times_of_a_recording_are_times_of_the_room_outside_of_pauses(
    lengths: list[tuple[int, int]], recorded_ns: int
) -> None:
    cuts, _ = paused(lengths)
    source_ns = cuts.source_ns(recorded_ns)
    assert cuts.recorded_ns(source_ns) == recorded_ns
    assert all(not cut.begin_ns <= source_ns < cut.end_ns for cut in cuts.over)


@given(LENGTHS, st.integers(0, 1000 * S), st.integers(0, 40 * MS))
def test_a_recording_never_runs_back_nor_faster_than_the_room(
    lengths: list[tuple[int, int]], source_ns: int, step_ns: int
) -> None:
    cuts, _ = paused(lengths)
    assert 0 <= cuts.recorded_ns(source_ns + step_ns) - cuts.recorded_ns(source_ns) <= step_ns


@given(LENGTHS)
def test_the_length_is_what_was_not_paused(lengths: list[tuple[int, int]]) -> None:
    cuts, asked = paused(lengths)
    end_ns = 10_000 * 3600 * S
    wanted_ns = end_ns - sum(end - begin for begin, end in asked)
    assert abs(cuts.recorded_ns(end_ns) - wanted_ns) <= BLOCK_NS * max(1, len(asked))
    assert all(cut.begin_ns % BLOCK_NS == cut.end_ns % BLOCK_NS == 0 for cut in cuts.over)


@given(LENGTHS, st.integers(0, 10 * S), st.integers(0, 10 * S))
def test_time_stands_still_while_paused(lengths: list[tuple[int, int]], kept_ns: int, wait_ns: int) -> None:
    cuts, asked = paused(lengths)
    begin_ns = (asked[-1][1] if asked else 0) + kept_ns
    cuts = cuts.begun(begin_ns)
    assert cuts.open_ns is not None
    assert cuts.recorded_ns(cuts.open_ns + wait_ns) == cuts.recorded_ns(cuts.open_ns)


@given(LENGTHS)
def test_what_follows_a_cut_lies_behind_by_all_pauses_until_then(lengths: list[tuple[int, int]]) -> None:
    cuts, _ = paused(lengths)
    for index, cut in enumerate(cuts.over):
        at_ns = cuts.resumed_ns(index)
        assert at_ns == cuts.recorded_ns(cut.end_ns)
        assert at_ns + cuts.length_ns(index) == cut.end_ns


def test_the_edge_of_a_cut_is_at_the_block_that_begins_next() -> None:
    begun = Cuts().begun(S + 1)
    assert (Cuts().edge_ns, begun.edge_ns, begun.ended(2 * S - 1).edge_ns) == (0, S + BLOCK_NS, 2 * S)


def test_a_second_pause_or_resume_changes_nothing() -> None:
    cuts = Cuts().begun(S)
    assert cuts.begun(2 * S) == cuts
    assert cuts.ended(3 * S).ended(4 * S) == cuts.ended(3 * S)


@given(LENGTHS, st.integers(0, 1000 * S))
def test_a_time_is_covered_where_it_is_paused(lengths: list[tuple[int, int]], at_ns: int) -> None:
    cuts, asked = paused(lengths)
    inside = [begin <= at_ns < end for begin, end in asked]
    if cuts.covers(at_ns) != any(inside):  # pauses begin and end with a block
        assert min(abs(at_ns - edge) for each in asked for edge in each) < BLOCK_NS
    assert cuts.begun(5000 * S).covers(5000 * S + BLOCK_NS) or cuts.edge_ns > 5000 * S
