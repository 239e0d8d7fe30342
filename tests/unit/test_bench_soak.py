"""What the soak benchmark takes for growth."""

import pytest

from bench.soak import Row, rising

HELD = (72.0, 2, 5, 13, 2, 0, 1, 0)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ([HELD] * 3, []),
        ([(72.4, *HELD[1:])] * 3, []),
        ([(74.0, *HELD[1:])] * 3, ["MiB"]),
        ([(72.0, 3, *HELD[2:])] * 3, ["children"]),
        ([HELD, HELD, (72.0, 3, *HELD[2:])], []),
        ([(72.0, 2, 5, 14, 2, 0, 1, 0), (72.0, 2, 5, 15, 2, 0, 1, 1), HELD], ["files"]),
    ],
)
def test_growth_is_judged(last: list[tuple[float, ...]], found: list[str]) -> None:
    first = [(60.0 + index, 1, index, 3, 1, 0, 0, 0) for index in range(3)]
    rows = [Row(index * 30, values) for index, values in enumerate([*first, *[HELD] * 3, *last])]
    assert [each.partition(":")[0] for each in rising(rows)] == found
