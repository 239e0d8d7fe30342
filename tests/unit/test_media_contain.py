"""Fitting a picture into a recording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.media.geometry import Fit, Rect, contain, fitting


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


@given(st.integers(1, 4000), st.integers(1, 4000), even, even, st.sampled_from(list(Fit)))
def test_whatever_comes_fits(width: int, height: int, into_width: int, into_height: int, fit: Fit) -> None:
    """What is cut out lies in the picture, and what it fills in the rectangle."""
    rect = Rect(8, 8, into_width, into_height)
    fitted = fitting(width, height, rect, fit)
    source, into = fitted.source, fitted.into
    assert source.width >= 1 and source.height >= 1 and into.width >= 2 and into.height >= 2
    assert source.x + source.width <= width and source.y + source.height <= height
    assert into.x >= 8 and into.x + into.width <= 8 + into_width
    assert into.y >= 8 and into.y + into.height <= 8 + into_height
