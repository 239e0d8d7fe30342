"""Which part of a recording is meant: what is refused, and that the rest lies in it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import EgressError
from openegress.core.span import END_SLACK_NS, LONGEST_NS, SHORTEST_NS, RequestedSpan, position_ns
from openegress.core.units import S

NS = st.integers(-10 * S, 2 * LONGEST_NS)
SAID = st.none() | NS


@given(last=SAID, begin=SAID, end=SAID, length=st.integers(0, 30 * 3600 * S))
def test_a_span_lies_in_the_recording_or_is_refused(
    last: int | None, begin: int | None, end: int | None, length: int
) -> None:
    wish = RequestedSpan(last, begin, end)
    try:
        span = wish.of(length)
    except EgressError:
        return
    assert 0 <= span.begin_ns < span.end_ns <= length
    assert SHORTEST_NS <= span.length_ns <= LONGEST_NS
    if last is not None:
        assert (begin, end, span.end_ns) == (None, None, length)
        assert span.length_ns == last or (span.begin_ns == 0 and last <= length + END_SLACK_NS)
    else:
        assert span.begin_ns == (begin or 0)
        assert span.end_ns == length or (end is not None and span.end_ns == end)


@given(begin=st.integers(0, 3600 * S), length=st.integers(SHORTEST_NS, LONGEST_NS), rest=st.integers(0, S))
def test_what_lies_in_the_recording_is_taken(begin: int, length: int, rest: int) -> None:
    span = RequestedSpan(begin_ns=begin, end_ns=begin + length).of(begin + length + rest)
    assert (span.begin_ns, span.end_ns) == (begin, begin + length)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (RequestedSpan(), "no span"),
        (RequestedSpan(S, 0), "either last, or from and to"),
        (RequestedSpan(None, 5 * S, 5 * S), "is not before to"),
        (RequestedSpan(None, 9 * S, 2 * S), "is not before to"),
        (RequestedSpan(None, 0, 11 * S), "beyond the end; 10 s are recorded"),
        (RequestedSpan(None, 10 * S, None), "beyond the end"),
        (RequestedSpan(12 * S), "before the start; 10 s are recorded"),
        (RequestedSpan(None, -1, 2 * S), "before the start"),
        (RequestedSpan(0), "hold no picture"),
        (RequestedSpan(None, 0, S // 1000), "hold no picture"),
        (RequestedSpan(LONGEST_NS + 1), "longer than a clip may be, 3600 s"),
    ],
)
def test_refusals(wish: RequestedSpan, words: str) -> None:
    with pytest.raises(EgressError) as refused:
        wish.of(10 * S)
    assert words in refused.value.message


def test_the_end_as_a_record_tells_it_is_no_overrun() -> None:
    assert RequestedSpan(None, S, 10 * S + 50_000_000).of(10 * S).end_ns == 10 * S


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90.5", 90.5), ("10:00", 600.0), ("1:02:03.5", 3723.5), ("0", 0.0)]
)
def test_places(text: str, seconds: float) -> None:
    assert position_ns(text, "from") == seconds * S


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "-inf", "1:2:3:4", "", "soon", "1e300", "1:-2", "10m"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(EgressError) as refused:
        position_ns(text, "from")
    assert refused.value.message.startswith("from: ")


@given(st.text(max_size=40))
def test_any_text_is_a_place_or_refused(text: str) -> None:
    try:
        found = position_ns(text, "to")
    except EgressError:
        return
    assert 0 <= found < math.inf
