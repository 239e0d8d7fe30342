"""Fitting a picture into a recording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.media.canvas import Rect, contain


@pytest.mark.parametrize(
    ("size", "into", "rect"),
    [
        ((1280, 720), (1280, 720), Rect(0, 0, 1280, 720)),
        ((640, 360), (1280, 720), Rect(0, 0, 1280, 720)),
        ((360, 640), (1280, 720), Rect(438, 0, 404, 720)),
        ((640, 480), (1280, 720), Rect(160, 0, 960, 720)),
        ((1920, 1080), (720, 1280), Rect(0, 438, 720, 404)),
        ((1279, 719), (1280, 720), Rect(0, 0, 1280, 720)),
        ((2, 2000), (1280, 720), Rect(638, 0, 2, 720)),
    ],
)
def test_contain(size: tuple[int, int], into: tuple[int, int], rect: Rect) -> None:
    assert contain(*size, *into) == rect


even = st.integers(8, 2000).map(lambda n: 2 * n)


@given(st.integers(2, 4000), st.integers(2, 4000), even, even)
def test_contained_even_and_centred(width: int, height: int, into_width: int, into_height: int) -> None:
    rect = contain(width, height, into_width, into_height)
    assert all(number % 2 == 0 for number in (rect.x, rect.y, rect.width, rect.height))
    assert rect.x + rect.width <= into_width
    assert rect.y + rect.height <= into_height
    assert into_width - rect.width - 2 * rect.x in (0, 2)
    assert into_height - rect.height - 2 * rect.y in (0, 2)
    assert rect.width >= into_width - 1 or rect.height >= into_height - 1
