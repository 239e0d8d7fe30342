"""Who has an egress, in a real Redis: one worker at a time, whoever returns."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from openegress.config.settings import Redis as RedisSettings
from openegress.core.codecs import Container
from openegress.core.ids import new_id
from openegress.core.plan import FileOutput, Plan, WebSource
from openegress.core.restart import Restart
from openegress.core.storages import S3Storage, StoragePlan
from openegress.psrpc.connection import RedisLink
from openegress.store import handovers as handovers_module
from openegress.store.handovers import HandoverOffer, Handovers, Holding
from testkit.redis_server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT_S = 0.05
SECRET = "a-secret-of-at-least-32-characters"
STORAGE = StoragePlan(S3Storage("bucket", access_key="key", secret="of-the-storage"))
OFFER = HandoverOffer(
    Plan(
        "EG_1", WebSource("https://example.com"), (FileOutput("a.mp4", Container.MP4, STORAGE),), None, None
    ),
    (Restart(1, 2, 0),),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["redis", "cluster"])
async def settings(request: pytest.FixtureRequest) -> AsyncIterator[RedisSettings]:
    async with RedisServer(cluster=request.param == "cluster") as redis:
        if request.param == "cluster":
            yield RedisSettings(cluster_addresses=(redis.address,))
        else:
            yield RedisSettings(address=redis.address)


Worker = Callable[..., Handovers]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, nobody is taken for lost but by falls_silent()."""
    monkeypatch.setattr(handovers_module, "TENURE_S", 60.0)
    monkeypatch.setattr(handovers_module, "CLAIM_S", 60.0)


@pytest_asyncio.fixture(loop_scope="module")
async def worker(settings: RedisSettings) -> AsyncIterator[Worker]:
    """Makes workers by name, in a cluster that each test has for itself."""
    cluster_id = new_id("CL_")
    made: list[Handovers] = []

    def make(name: str, secret: str = SECRET) -> Handovers:
        one = Handovers(settings, cluster_id, secret)
        one.open(name)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()


async def falls_silent(one: Handovers, number: int = 0) -> None:
    with pytest.MonkeyPatch.context() as short:
        short.setattr(handovers_module, "TENURE_S", SHORT_S)
        await one.beat({"EG_1": number})
    await asyncio.sleep(SHORT_S + 0.05)


async def test_one_of_many_claims_what_is_lost(worker: Worker) -> None:
    first, others = worker("first"), [worker(f"other-{n}") for n in range(8)]
    assert await first.offer(OFFER, 0)
    assert await others[0].lost() == [] and await others[0].claim("EG_1") is None
    await falls_silent(first)
    assert await others[0].lost() == ["EG_1"]
    claims = await asyncio.gather(*(one.claim("EG_1") for one in others))
    (claimed,) = [each for each in claims if each is not None]
    assert (claimed.offer, claimed.number) == (OFFER, 1)
    standings = [await one.standing("EG_1", 1) for one in others]
    assert standings.count(Holding.OURS) == 1 and standings.count(Holding.TAKEN) == len(others) - 1


async def test_one_that_was_out_of_reach_learns_that_it_lost(worker: Worker) -> None:
    first, second = worker("first"), worker("second")
    await first.offer(OFFER, 0)
    assert await first.beat({"EG_1": 0}) == {"EG_1": True}
    await falls_silent(first)
    assert (await second.claim("EG_1")) is not None
    assert await first.beat({"EG_1": 0}) == {"EG_1": False}
    assert not await first.offer(OFFER, 0) and not await first.release("EG_1", 0)
    assert await second.beat({"EG_1": 1}) == {"EG_1": True}
    assert await first.standing("EG_1", 0) is Holding.TAKEN
    assert await second.release("EG_1", 1)
    assert await first.standing("EG_1", 0) is Holding.ENDED
    assert await first.lost() == []


async def test_the_next_life_of_a_worker_goes_on_if_nobody_was_first(worker: Worker) -> None:
    first = worker("first")
    await first.offer(OFFER, 0)
    await falls_silent(first)
    returned, second = worker("first"), worker("second")
    assert await returned.standing("EG_1", 0) is Holding.OURS
    assert await returned.offer(OFFER, 0)
    assert await second.claim("EG_1") is None


async def test_a_worker_that_has_a_later_part_has_lost_its_first(worker: Worker) -> None:
    """It was lost, another took over and was lost too, and it came back for the third part."""
    first, second = worker("first"), worker("second")
    await first.offer(OFFER, 0)
    await falls_silent(first)
    await second.claim("EG_1")
    await falls_silent(second, 1)
    claimed = await first.claim("EG_1")
    assert claimed is not None and claimed.number == 2
    assert await first.standing("EG_1", 0) is Holding.TAKEN
    assert await first.standing("EG_1", 2) is Holding.OURS
    assert not await first.offer(OFFER, 0)


async def test_what_was_silent_for_long_is_nobodys(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks after records ends it then."""
    first, second = worker("first"), worker("second")
    await first.offer(OFFER, 0)
    await falls_silent(first)
    assert await second.lost() == ["EG_1"]
    monkeypatch.setattr(handovers_module, "CLAIM_S", 0.0)
    assert await second.lost() == [] and await second.claim("EG_1") is None


async def test_what_redis_has_lost_is_offered_anew(worker: Worker, settings: RedisSettings) -> None:
    first = worker("first")
    await first.offer(OFFER, 0)
    link = RedisLink(settings)
    await link.run(link.client.flushall)
    await link.close()
    assert await first.beat({"EG_1": 0}) == {"EG_1": None}
    assert await first.standing("EG_1", 0) is Holding.OURS
    assert await first.release("EG_1", 0) and await first.offer(OFFER, 0)


async def test_who_has_another_secret_reads_nothing(worker: Worker, settings: RedisSettings) -> None:
    await worker("first").offer(OFFER, 0)
    assert await worker("second").look("EG_1") == OFFER
    assert await worker("stranger", "another-secret-of-32-characters--").look("EG_1") is None
    link = RedisLink(settings)
    keys = [key async for key in link.client.scan_iter("*handover:*")]
    stored = [await link.run(link.client.hgetall, key) for key in keys]
    await link.close()
    assert stored and not any(b"of-the-storage" in value for each in stored for value in each.values())


async def test_a_number_that_is_none_is_mended_by_the_next_offer(
    worker: Worker, settings: RedisSettings
) -> None:
    first = worker("first")
    await first.offer(OFFER, 0)
    link = RedisLink(settings)
    async for key in link.client.scan_iter("*handover:*:EG_1"):
        await link.run(link.client.hset, key, "number", "x")
    await link.close()
    assert await first.standing("EG_1", 0) is Holding.OURS
    assert await first.beat({"EG_1": 0}) == {"EG_1": None}
    assert await first.offer(OFFER, 0)
    assert await first.beat({"EG_1": 0}) == {"EG_1": True}
