"""Reads and writes EBML elements (RFC 8794), the format of Matroska and WebM. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

VOID = 0xEC
WIDE_HEAD_BYTES = 9
"""Size of the head of an element with a one-byte name and an eight-byte size."""
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
"""Size of an element that ends with the file (section 6.2)."""


@dataclass(frozen=True, slots=True)
class Element:
    kind: int
    """The element's name, marker bits included."""
    start: int
    data: int
    """Offset of its content."""
    end: int


def element(name: bytes, data: bytes) -> bytes:
    """Builds an element with its size in as few bytes as possible (section 6.1)."""
    size = len(data)
    width = 1
    while size >= (1 << 7 * width) - 1:  # all ones mean an unknown size
        width += 1
    return name + (size | 1 << 7 * width).to_bytes(width, "big") + data


def wide(name: bytes, data: bytes) -> bytes:
    """Builds an element with its size in eight bytes, whatever its value."""
    return name + wide_size(len(data)) + data


def wide_size(size: int) -> bytes:
    return (size | 1 << 56).to_bytes(8, "big")


def number(name: bytes, value: int) -> bytes:
    """Builds an unsigned integer (section 7.2) in eight bytes, so that a later value fits into its place."""
    return name + b"\x88" + value.to_bytes(8, "big")


def text(name: bytes, value: str) -> bytes:
    """Builds a UTF-8 string element (section 7.5)."""
    return element(name, value.encode())


def void(size: int) -> bytes:
    """Builds an element of `size` bytes in all, at least two, that readers skip (section 11.3.2)."""
    if size < WIDE_HEAD_BYTES:
        return b"\xec" + bytes((0x80 | size - 2,)) + bytes(size - 2)
    return b"\xec" + wide_size(size - WIDE_HEAD_BYTES) + bytes(size - WIDE_HEAD_BYTES)


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """Reads a variable-size integer (section 4). Returns it and where it ends; (0, `at`) if there is none."""
    if at >= len(data) or not data[at]:
        return 0, at
    end = at + 9 - data[at].bit_length()
    if end > len(data):
        return 0, at
    return int.from_bytes(data[at:end], "big") & (1 << 7 * (end - at)) - 1, end


def elements(data: bytes, start: int, end: int) -> Iterator[Element]:
    """Reads sibling elements. One of unknown size reaches to the end; anything that is not an element ends
    the list."""
    at, end = start, min(end, len(data))
    while at < end and data[at]:
        size_at = at + 9 - data[at].bit_length()
        if size_at >= end:
            return
        size, inside = number_at(data, size_at)
        if inside == size_at:
            return
        is_unknown = size == (1 << 7 * (inside - size_at)) - 1
        after = end if is_unknown else inside + size
        yield Element(int.from_bytes(data[at:size_at], "big"), at, inside, after)
        at = after
