"""Tracks that come into the head of a file that is read meanwhile: every step of it is a file."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openegress.core.units import S
from openegress.media.ebml import elements
from openegress.media.matroska_head import SLOT_BYTES, HeadRoom, head

VOID, SEGMENT, INFO, TRACKS, TAGS = 0xEC, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1254C367
ENTRY, TAG = 0xAE, 0x7373
PAGE = 4096
STARTED_NS = 1_700_000_000 * S


class Written:
    """A file that keeps every state it was in."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.states = [data]
        self.writes: list[tuple[int, int]] = []

    def rewrite(self, at: int, data: bytes) -> None:
        self.writes.append((at, len(data)))
        assert at + len(data) <= len(self.data)
        self.data = self.data[:at] + data + self.data[at + len(data) :]
        self.states.append(self.data)


def inside(data: bytes, kind: int) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of what is in Tracks or Tags."""
    _, segment = elements(data, 0, len(data))
    assert segment.kind == SEGMENT
    (outer,) = (each for each in elements(data, segment.data, len(data)) if each.kind == kind)
    at = outer.data
    for each in elements(data, outer.data, outer.end):
        assert each.start == at
        at = each.end
        yield each.kind, data[each.data : each.end]
    assert at == outer.end, "it is filled to its end"


def holds(data: bytes, outer: int, kind: int, expected: list[bytes]) -> bool:
    """Exactly these, each with what fills it up behind it."""
    found = [content for each, content in inside(data, outer) if each == kind]
    return len(found) == len(expected) and all(map(bytes.startswith, found, expected))


def test_an_empty_head() -> None:
    data, tracks, tags = head(STARTED_NS)
    _, segment = elements(data, 0, len(data))
    assert [each.kind for each in elements(data, segment.data, len(data))] == [VOID, INFO, TRACKS, TAGS]
    for room, kind in ((tracks, TRACKS), (tags, TAGS)):
        assert [found for found, _ in inside(data, kind)] == [VOID]
        assert room.at % SLOT_BYTES == 0
        assert data[room.at] == VOID
    # RFC 8794 section 7.6: from 2001 on, in ns.
    assert (STARTED_NS - 978_307_200 * S).to_bytes(8, "big") in data


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40))
def test_each_step_is_a_file_with_the_track_or_without_it(sizes: list[int]) -> None:
    data, tracks, tags = head(STARTED_NS)
    file = Written(data)
    expected: list[bytes] = []
    for room, outer, kind in ((tags, TAGS, TAG), (tracks, TRACKS, ENTRY)):
        expected = []
        for number, size in enumerate(sizes):
            before = len(file.states)
            content = bytes([number + 1]) * (size + 1)
            room.reveal(content, file.rewrite)
            half, whole = file.states[before:]
            assert holds(half, outer, kind, expected), "what is written first is not seen"
            expected.append(content)
            assert holds(whole, outer, kind, expected)
            at, length = file.writes[-1]
            assert at // PAGE == (at + length - 1) // PAGE, "a page is written whole or not"
    assert len(file.data) == len(data)


@pytest.mark.parametrize("name", [b"\xae", b"\x73\x73"])
@example(left=136, size=54)
@given(left=st.integers(9, 700), size=st.integers(1, 700))
def test_what_does_not_fit_is_refused_before_anything_is_written(name: bytes, left: int, size: int) -> None:
    room = HeadRoom(name, 0, left)
    file = Written(bytes(left))
    if room.takes(bytes(size)):
        room.reveal(bytes(size), file.rewrite)
        kinds = [each.kind for each in elements(file.data, 0, left)]
        assert kinds == [int.from_bytes(name, "big"), VOID]
    else:
        padding = SLOT_BYTES + 1  # one byte alone cannot be a Void
        assert size + 9 + padding + 9 > left, "there is room"
        with pytest.raises(ValueError, match="no room"):
            room.reveal(bytes(size), file.rewrite)
        assert file.writes == []
