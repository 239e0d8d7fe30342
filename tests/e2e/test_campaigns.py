"""The network matrix in short: a few of its cells."""

from dataclasses import replace
from pathlib import Path

import pytest

from campaigns.network import CONDITIONS, MEDIA, run

pytestmark = pytest.mark.quiet

SECONDS = 10.0


@pytest.mark.parametrize(
    ("condition", "media"),
    [
        ("server - recorder, loss 1 %", ("VP8", "H264", "Opus RED")),
        ("server - recorder, bursts of 10, 5 %", ("VP9", "AV1", "Opus")),
    ],
)
async def test_a_bad_network_costs_no_more_than_it_may(
    tmp_path: Path, condition: str, media: tuple[str, ...]
) -> None:
    (found,) = [replace(each, seconds=SECONDS) for each in CONDITIONS if each.key == condition]
    done = await run(found, [each for each in MEDIA if each.name in media], tmp_path)
    assert {cell.medium.name: cell.faults(found) for cell in done.cells} == {name: [] for name in media}
