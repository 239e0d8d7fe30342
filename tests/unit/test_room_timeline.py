import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openegress.room.timeline import MS, Anchor, S, Timeline

EPOCH = 1_700_000_000 * S
LAG_NS = -EPOCH
"""Of frames that arrive as they are captured: arrivals count from EPOCH."""


def frame(timeline: Timeline, timestamp: int, arrival_ns: int) -> int:
    return timeline.capture_ns(timeline.arrived(timestamp & 0xFFFFFFFF, arrival_ns))


def started(rate: int = 90_000, first: int = 1000) -> Timeline:
    """First frame at EPOCH."""
    timeline = Timeline(rate)
    timeline.arrived(first, 0)
    timeline.report(EPOCH, first)
    return timeline


def test_no_place_before_the_first_report() -> None:
    timeline = Timeline(90_000)
    assert timeline.anchor is Anchor.NONE
    timeline.report(EPOCH, 5)
    assert timeline.anchor is Anchor.NONE
    timeline.arrived(5, 0)
    timeline.report(EPOCH, 5)
    assert timeline.anchor is Anchor.SENDER_REPORT


@pytest.mark.parametrize("rate", [8_000, 48_000, 90_000])
def test_frames_before_and_after_the_report(rate: int) -> None:
    timeline = Timeline(rate)
    unwrapped = [timeline.arrived(index * rate // 50, index * 20 * MS) for index in range(200)]
    timeline.report(EPOCH + 3 * S, 3 * rate)
    assert [timeline.capture_ns(each) - EPOCH for each in unwrapped] == [i * 20 * MS for i in range(200)]


def test_rtp_time_is_unwrapped_both_ways() -> None:
    timeline = Timeline(90_000)
    first = timeline.arrived(0xFFFFFF00, 0)
    assert timeline.arrived(0x100, 5 * MS) - first == 0x200
    assert timeline.arrived(0xFFFFFFF0, 6 * MS) - first == 0xF0


def test_the_report_may_lie_on_the_other_side_of_the_wrap() -> None:
    timeline = Timeline(90_000)
    unwrapped = timeline.arrived(0x10, 0)
    timeline.report(EPOCH, 0x10 - 90_000 & 0xFFFFFFFF)
    assert timeline.capture_ns(unwrapped) == EPOCH + S


def test_many_wraps() -> None:
    timeline = started(first=0)
    step = 90_000 * 3600
    for hour in range(1, 60):
        assert frame(timeline, hour * step, hour * 3600 * S) == EPOCH + hour * 3600 * S


def test_drift_is_followed_slowly_and_completely() -> None:
    """A clock that is 100 ppm slow: after an hour 360 ms, of which no more than a few ms are left."""
    timeline = started(first=0)
    last = EPOCH
    for second in range(1, 3601):
        true_ns = EPOCH + second * S
        timestamp = int(second * 90_000 * (1 - 100e-6))
        got = frame(timeline, timestamp, second * S)
        assert abs((got - last) - S) < 1_200_000
        last = got
        if second % 5 == 0:
            timeline.report(true_ns, timestamp & 0xFFFFFFFF)
    assert abs(last - (EPOCH + 3600 * S)) < 5 * MS


def test_a_single_wild_report_moves_little() -> None:
    timeline = started(first=0)
    for second in range(1, 30):
        timeline.report(EPOCH + second * S + (200 * MS if second == 10 else 0), second * 90_000)
        got = frame(timeline, second * 90_000, second * S)
        assert abs(got - EPOCH - second * S) < 55 * MS
    assert abs(frame(timeline, 60 * 90_000, 60 * S) - EPOCH - 60 * S) < 10 * MS


def test_without_reports_the_arrival_counts_until_one_comes() -> None:
    timeline = Timeline(90_000)
    unwrapped = timeline.arrived(0, 0)
    timeline.assume(unwrapped, EPOCH + 300 * MS)
    assert timeline.anchor is Anchor.ARRIVAL
    assert timeline.capture_ns(unwrapped) == EPOCH + 300 * MS
    timeline.report(EPOCH + S, 90_000)
    assert timeline.anchor is Anchor.SENDER_REPORT
    positions = [frame(timeline, s * 90_000, s * S) - EPOCH - s * S for s in range(2, 200)]
    assert positions == sorted(positions, reverse=True)
    assert positions[-1] == 0


def test_assuming_does_not_overrule_a_report() -> None:
    timeline = started()
    timeline.assume(5, 0)
    assert timeline.anchor is Anchor.SENDER_REPORT


def test_an_rtp_clock_that_starts_anew_goes_on_by_arrival() -> None:
    timeline = started(first=0)
    assert frame(timeline, 90_000, S) == EPOCH + S
    assert frame(timeline, 2_000_000_000, S + 40 * MS) == EPOCH + S + 40 * MS
    assert frame(timeline, 2_000_000_000 + 3_000, S + 73 * MS) == EPOCH + S + 40 * MS + 33_333_333


def test_arrivals_held_up_for_long_move_nothing() -> None:
    timeline = started(first=0)
    assert frame(timeline, 90_000, 12 * S) == EPOCH + S
    assert timeline.report(EPOCH + 2 * S, 180_000, LAG_NS) == 0
    assert frame(timeline, 180_000, 12 * S) == EPOCH + 2 * S


def test_an_rtp_clock_that_paused_is_put_right_by_the_next_report() -> None:
    timeline = started(first=0)
    assert frame(timeline, 90_000, S) == EPOCH + S
    frame(timeline, 93_000, 21 * S)
    assert timeline.report(EPOCH + 21 * S, 93_000, LAG_NS) == 0
    assert frame(timeline, 96_000, 21 * S + 33 * MS) == EPOCH + 21 * S + 33_333_333


@pytest.mark.parametrize("late_ns", [0, 3 * S])
@pytest.mark.parametrize("step_ns", [10 * S, -10 * S])
def test_a_sender_that_sets_its_clock_moves_nothing(step_ns: int, late_ns: int) -> None:
    """Not even when the packets happen to be late just then. It is told once, to be taken off later."""
    timeline, told = started(first=0), 0
    for second in range(1, 60):
        is_set = second >= 20
        assert frame(timeline, second * 90_000, second * S + late_ns * is_set) == EPOCH + second * S
        step = timeline.report(EPOCH + second * S + step_ns * is_set - told, second * 90_000, LAG_NS)
        told += step
        assert step == (step_ns if second == 20 else 0)


def test_a_report_is_right_where_no_arrival_is_to_be_expected() -> None:
    timeline = started(first=0)
    assert timeline.report(EPOCH + S - 5 * S, 90_000) == 0
    frame(timeline, 90_000, S)
    assert timeline.placed_ns == EPOCH - 4 * S


def test_where_a_frame_lies_is_known_even_if_it_cannot_be_given_out_there() -> None:
    timeline = started(first=0)
    assert frame(timeline, 90_000, S) == timeline.placed_ns == EPOCH + S
    timeline.shift(-5 * S)
    assert frame(timeline, 93_000, S + 33 * MS) == EPOCH + S + 1000
    assert timeline.placed_ns == EPOCH - 4 * S + 33_333_333


def test_a_long_silence_is_no_jump() -> None:
    timeline = started(first=0)
    assert frame(timeline, 600 * 90_000, 600 * S) == EPOCH + 600 * S


def test_a_new_ssrc_starts_anew_and_never_goes_back() -> None:
    timeline = started(first=0)
    before = frame(timeline, 90_000, S)
    timeline.restart()
    assert timeline.anchor is Anchor.NONE
    unwrapped = timeline.arrived(77, S)
    timeline.report(EPOCH + S - 30 * MS, 77)
    assert timeline.capture_ns(unwrapped) > before


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-200_000, 400_000), st.integers(-(10**10), 10**10), st.booleans()),
        min_size=1,
        max_size=100,
    )
)
def test_times_rise_whatever_comes(steps: list[tuple[int, int, bool]]) -> None:
    timeline = started()
    timestamp, last = 1000, 0
    for index, (step, wobble, report) in enumerate(steps):
        timestamp += step
        got = frame(timeline, timestamp, index * 33 * MS)
        assert got > last
        last = got
        if report:
            timeline.report(EPOCH + wobble, timestamp & 0xFFFFFFFF)
