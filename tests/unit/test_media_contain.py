"""Fitting a picture into a recording."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.media.geometry import Fit, Rect, contain, cover, fitting, outside


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


@pytest.mark.parametrize(
    ("size", "into", "part"),
    [
        ((1280, 720), (628, 704), Rect(326, 8, 628, 704)),
        ((1920, 1080), (942, 1056), Rect(488, 12, 942, 1056)),
        ((1280, 720), (640, 720), Rect(320, 0, 640, 720)),
        ((1280, 720), (416, 228), Rect(0, 8, 1280, 702)),
        ((630, 352), (628, 350), Rect(0, 0, 628, 350)),
        ((620, 346), (628, 350), Rect(0, 0, 620, 346)),
    ],
    ids=["two of 720p", "two of 1080p", "as tall", "much smaller", "a little larger", "a little smaller"],
)
def test_what_is_nearly_as_large_as_its_tile_is_cropped_instead_of_scaled(
    size: tuple[int, int], into: tuple[int, int], part: Rect
) -> None:
    assert cover(*size, *into) == part


@given(st.lists(st.tuples(*[st.integers(0, 11)] * 2, *[st.integers(1, 6)] * 2), max_size=6))
def test_what_lies_outside_is_all_the_rest_and_nothing_twice(
    corners: list[tuple[int, int, int, int]],
) -> None:
    whole = Rect(0, 0, 12, 12)
    rects = [Rect(x, y, min(width, 12 - x), min(height, 12 - y)) for x, y, width, height in corners]
    drawn = {cell for rect in rects for cell in _cells(rect)}
    rest = [cell for rect in outside(whole, rects) for cell in _cells(rect)]
    assert len(rest) == len(set(rest))
    assert set(rest) == set(_cells(whole)) - drawn


def _cells(rect: Rect) -> list[tuple[int, int]]:
    return [(x, y) for x in range(rect.x, rect.x + rect.width) for y in range(rect.y, rect.y + rect.height)]
