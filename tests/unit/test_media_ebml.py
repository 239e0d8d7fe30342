"""EBML as RFC 8794 has it: what is written is read, and what is no element gives nothing."""

from hypothesis import given
from hypothesis import strategies as st

from openegress.media import ebml

NAMES = st.sampled_from([b"\xa3", b"\xae", b"\x42\x86", b"\x22\xb5\x9c", b"\x1f\x43\xb6\x75"])
SIZES = st.integers(0, 300) | st.sampled_from([126, 127, 128, 16_382, 16_383, 16_384, 70_000])


@given(st.lists(st.tuples(NAMES, SIZES, st.booleans()), max_size=6))
def test_elements_side_by_side(items: list[tuple[bytes, int, bool]]) -> None:
    data = b"".join(
        (ebml.wide if is_wide else ebml.element)(name, bytes(size)) for name, size, is_wide in items
    )
    found = list(ebml.elements(data, 0, len(data)))
    assert [each.kind for each in found] == [int.from_bytes(name, "big") for name, _, _ in items]
    assert [each.end - each.data for each in found] == [size for _, size, _ in items]
    ends = [0, *(each.end for each in found)]
    assert [each.start for each in found] == ends[:-1] and ends[-1] == len(data)


@given(st.integers(2, 20_000))
def test_a_void_is_as_long_as_it_has_to_be(size: int) -> None:
    data = ebml.void(size)
    assert len(data) == size
    (found,) = ebml.elements(data, 0, size)
    assert (found.kind, found.end) == (ebml.VOID, size)


def test_sizes_of_all_ones_are_unknown() -> None:
    """A content of 127 bytes takes two bytes of size: one would say that nobody knows it."""
    assert ebml.element(b"\xa3", bytes(126))[:2] == b"\xa3\xfe"
    assert ebml.element(b"\xa3", bytes(127))[:3] == b"\xa3\x40\x7f"
    endless = b"\xa3\xff" + bytes(5)
    assert [each.end for each in ebml.elements(endless, 0, len(endless))] == [7]


@given(st.binary(max_size=200))
def test_any_bytes_give_elements_that_follow_each_other(data: bytes) -> None:
    at = 0
    for each in ebml.elements(data, 0, len(data)):
        assert each.start == at < each.data <= len(data)
        assert each.data <= each.end
        at = each.end
