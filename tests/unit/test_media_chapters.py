"""Markers as chapters of MP4, WebVTT and HLS, and as text on their way."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import EgressError
from openegress.core.marker import Marker, sorted_markers, spaced
from openegress.core.units import S
from openegress.media.chapters import MAX_CHAPTERS, chapter_box, webvtt
from openegress.output.hls.playlist import date_range
from openegress.request import orders
from openegress.request.orders import AddMarker, LayoutOrder

UNIX_NS = 1_700_000_000 * S
QUESTIONS = Marker("Questions & <answers>", 62 * S, UNIX_NS)
HELLO = Marker("Hello", 1_500_000_000, UNIX_NS)


def test_webvtt() -> None:
    assert webvtt([QUESTIONS, HELLO], 3700 * S) == (
        "WEBVTT\n\n"
        "1\n00:00:01.500 --> 00:01:02.000\nHello\n\n"
        "2\n00:01:02.000 --> 01:01:40.000\nQuestions &amp; &lt;answers&gt;\n"
    )


@given(st.lists(st.builds(Marker, st.text(max_size=300), st.integers(0, 10**14), st.just(0)), max_size=300))
def test_a_box_holds_what_it_says(markers: list[Marker]) -> None:
    data = chapter_box(markers)
    if not markers:
        assert data == b""
        return
    assert struct.unpack_from(">I4sI4s", data) == (len(data), b"udta", len(data) - 8, b"chpl")
    count, at = data[24], 25
    assert count == min(len(markers), MAX_CHAPTERS)
    starts = []
    for _ in range(count):
        start, size = struct.unpack_from(">QB", data, at)
        data[at + 9 : at + 9 + size].decode()
        starts.append(start)
        at += 9 + size
    assert at == len(data)
    assert starts == sorted(each.at_ns // 100 for each in markers)[:MAX_CHAPTERS]


@given(st.lists(st.builds(Marker, st.text(), st.integers(0, 50), st.just(0)), max_size=30), st.integers(1, 9))
def test_no_two_begin_together(markers: list[Marker], by_ns: int) -> None:
    found = spaced(tuple(markers), by_ns)
    assert [each.name for each in found] == [each.name for each in sorted_markers(tuple(markers))]
    starts = [each.at_ns for each in found]
    assert all(after - before >= by_ns for before, after in pairwise(starts))
    assert all(
        mine.at_ns >= told.at_ns for mine, told in zip(found, sorted_markers(tuple(markers)), strict=True)
    )


def test_a_moment_in_a_playlist() -> None:
    assert date_range(3, Marker('He said "hi"\n', 0, UNIX_NS)) == (
        '#EXT-X-DATERANGE:ID="marker-3",CLASS="openegress.marker",START-DATE="2023-11-14T22:13:20.000Z",'
        "DURATION=0.0,X-TITLE=\"He said 'hi'\""
    )


# --- as orders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@marker=Part 2", AddMarker("Part 2")),
        ("@marker=C++ %26 more&ago=10s", AddMarker("C++ & more", 10.0)),
    ],
)
def test_a_marker_comes_in_the_place_of_a_layout(text: str, expected: AddMarker) -> None:
    assert orders.in_layout(text) == LayoutOrder(expected, None)
    assert orders.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["@marker=", "@marker=%0A", "@marker=a&b", "@marker=a&ago=soon", "@marker=" + "a" * 201]
)
def test_one_that_makes_no_sense_is_refused_and_changes_no_layout(text: str) -> None:
    with pytest.raises(EgressError):
        orders.in_layout(text)
    found, wrong = orders.in_metadata(text)
    assert found == LayoutOrder(None, None)
    assert wrong is not None


@given(name=st.text(min_size=1, max_size=200), ago=st.sampled_from(["", "10s", "1m30s"]))
def test_any_name_arrives(name: str, ago: str) -> None:
    try:
        marker = orders.add_marker(name, ago)
    except EgressError:
        assert not "".join(c if c.isprintable() else " " for c in name).split()
        return
    assert orders.parse(str(marker)) == marker
