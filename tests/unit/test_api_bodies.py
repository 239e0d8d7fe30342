"""Packed bodies: unpacked whole or not at all, and never past the limit."""

import gzip
import zlib

import pytest

from openegress.api.bodies import MAX_GZIP_MEMBERS, TooLarge, unpacked
from openegress.core.errors import Code, EgressError

LIMIT_BYTES = 100_000


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (gzip.compress(b"{}"), b"{}"),
        (zlib.compress(b"{}"), b"{}"),
        (gzip.compress(b"one, ") + gzip.compress(b"two"), b"one, two"),
        (gzip.compress(b""), b""),
        (gzip.compress(b"a" * LIMIT_BYTES), b"a" * LIMIT_BYTES),
    ],
    ids=["gzip", "zlib", "two members", "nothing", "the limit"],
)
def test_whole_bodies_are_unpacked(packed: bytes, plain: bytes) -> None:
    assert unpacked(packed, LIMIT_BYTES) == plain


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"a" * (LIMIT_BYTES + 1)),
        gzip.compress(b"a" * 50_000_000),
        gzip.compress(b"a" * LIMIT_BYTES) + gzip.compress(b"b"),
        zlib.compress(b"a" * 50_000_000),
    ],
    ids=["a byte", "a bomb", "a second member", "a zlib bomb"],
)
def test_too_large_ones_are_not(packed: bytes) -> None:
    with pytest.raises(TooLarge):
        unpacked(packed, LIMIT_BYTES)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{}",
        gzip.compress(b"{}")[:-3],
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1),
    ],
    ids=["nothing", "not packed", "cut off", "more behind it", "many empty members"],
)
def test_broken_ones_are_refused(packed: bytes) -> None:
    with pytest.raises(EgressError) as refused:
        unpacked(packed, LIMIT_BYTES)
    assert refused.value.code is Code.MALFORMED
