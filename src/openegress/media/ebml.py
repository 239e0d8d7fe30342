"""Reads and writes elements of EBML (RFC 8794), the format of Matroska and WebM. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

VOID = 0xEC
WIDE_HEAD_BYTES = 9
"""Of an element whose name takes one byte and whose size takes eight."""
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
"""Of an element that ends with the file (section 6.2)."""


@dataclass(frozen=True, slots=True)
class Element:
    kind: int
    """Its name, marker bits included."""
    start: int
    data: int
    """Where its content begins."""
    end: int


def element(name: bytes, data: bytes) -> bytes:
    """With its size in as few bytes as it takes (section 6.1)."""
    size = len(data)
    width = 1
    while size >= (1 << 7 * width) - 1:  # all ones would be an unknown size
        width += 1
    return name + (size | 1 << 7 * width).to_bytes(width, "big") + data


def wide(name: bytes, data: bytes) -> bytes:
    """With its size in eight bytes, whatever it is."""
    return name + wide_size(len(data)) + data


def wide_size(size: int) -> bytes:
    return (size | 1 << 56).to_bytes(8, "big")


def number(name: bytes, value: int) -> bytes:
    """An unsigned integer (section 7.2) in eight bytes, so that a later one fits into its place."""
    return name + b"\x88" + value.to_bytes(8, "big")


def text(name: bytes, value: str) -> bytes:
    """Section 7.5."""
    return element(name, value.encode())


def void(size: int) -> bytes:
    """An element of `size` bytes in all, two at least, that nobody reads (section 11.3.2)."""
    if size < WIDE_HEAD_BYTES:
        return b"\xec" + bytes((0x80 | size - 2,)) + bytes(size - 2)
    return b"\xec" + wide_size(size - WIDE_HEAD_BYTES) + bytes(size - WIDE_HEAD_BYTES)


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """A variable-size integer (section 4) and where it ends; (0, `at`) where there is none."""
    if at >= len(data) or not data[at]:
        return 0, at
    end = at + 9 - data[at].bit_length()
    if end > len(data):
        return 0, at
    return int.from_bytes(data[at:end], "big") & (1 << 7 * (end - at)) - 1, end


def elements(data: bytes, start: int, end: int) -> Iterator[Element]:
    """Side by side; one of unknown size reaches to the end, and nothing is given of what is no element."""
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
