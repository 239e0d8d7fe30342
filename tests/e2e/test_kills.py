"""A kill for each kind of recording costs at most a second in the median and two at worst, from the first
second after ACTIVE on."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from campaigns.kills import MEDIAN_S, WORST_S, Kill, kill_handlers, kill_instance
from campaigns.kinds import KINDS, World, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet]

FIRST_S, LAST_S = 1.5, 9.0
"""After ACTIVE: before a track's first sender report, which comes within six seconds, and after it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def around(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("kills")) as made:
        yield made


def check(kills: Sequence[Kill]) -> None:
    costly = [
        f"{each.kind.name}: {each.lost_s:.2f} s of {each.after_s:.2f} {each.why}"
        for each in kills
        if each.lost_s > WORST_S
    ]
    assert costly == []
    assert statistics.median(each.lost_s for each in kills) <= MEDIAN_S


async def test_a_killed_handler_costs_no_more_than_it_may(around: World) -> None:
    step_s = (LAST_S - FIRST_S) / (len(KINDS) - 1)
    lanes = [
        kill_handlers(around, kind, [FIRST_S + number * step_s, LAST_S - number * step_s])
        for number, kind in enumerate(KINDS)
    ]
    check([kill for lane in await asyncio.gather(*lanes) for kill in lane])


@pytest.mark.parametrize("after_s", [FIRST_S, LAST_S])
async def test_a_killed_instance_costs_no_more_than_it_may(around: World, after_s: float) -> None:
    check(await kill_instance(around, KINDS, [after_s]))
