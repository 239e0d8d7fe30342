"""Updates against a record keeper that announces every copy, as livekit-server does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from google.protobuf.empty_pb2 import Empty
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import GetEgressRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import IOInfo

ACTIVE, COMPLETE = EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_COMPLETE
FAILED = EgressStatus.EGRESS_FAILED


@dataclass
class Keeper:
    """Takes an update, then fails as told: "after" taking it, or "before"."""

    records: dict[str, EgressInfo] = field(default_factory=dict)
    announced: list[tuple[int, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def update(self, info: EgressInfo) -> Empty:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise EgressError(Code.UNAVAILABLE, "not now")
        self.records[info.egress_id] = info
        self.announced.append((info.status, info.updated_at))
        if failure == "after":
            raise EgressError(Code.DEADLINE_EXCEEDED, "the answer was lost")
        return Empty()

    async def get(self, request: GetEgressRequest) -> EgressInfo:
        if request.egress_id not in self.records:
            raise EgressError(Code.NOT_FOUND, "egress does not exist")
        return self.records[request.egress_id]


@pytest.fixture
async def keeper() -> Keeper:
    return Keeper()


@dataclass
class Reach:
    was_lost: bool = False


@pytest.fixture
def reach() -> Reach:
    return Reach()


@pytest.fixture
async def client(keeper: Keeper, reach: Reach) -> AsyncIterator[IOInfoClient]:
    bus = MemoryBus()
    server, rpc = RPCServer(bus), RPCClient(bus)
    await server.register(IOInfo.UPDATE_EGRESS, keeper.update)
    await server.register(IOInfo.GET_EGRESS, keeper.get)
    yield IOInfoClient(rpc, in_doubt=lambda: reach.was_lost)
    await rpc.close()
    await server.close()
    await bus.close()


async def until_taken(client: IOInfoClient, info: EgressInfo) -> int:
    """Tries as a worker does; how many attempts it took."""
    for attempt in range(1, 10):
        try:
            await client.update(info)
            return attempt
        except EgressError:
            continue
    raise AssertionError("never taken")


@pytest.mark.parametrize(
    ("failures", "attempts"),
    [([], 1), (["before"], 2), (["after"], 2), (["before", "after"], 3), (["before", "before"], 3)],
)
async def test_an_update_is_announced_once(
    keeper: Keeper, client: IOInfoClient, failures: list[str], attempts: int
) -> None:
    keeper.failures = failures
    ended = EgressInfo(egress_id="EG_1", status=COMPLETE, updated_at=9)
    assert await until_taken(client, ended) == attempts
    assert keeper.announced == [(COMPLETE, 9)]


async def test_doubt_about_one_update_does_not_swallow_the_next(keeper: Keeper, client: IOInfoClient) -> None:
    keeper.failures = ["after"]
    active = EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=1)
    ended = EgressInfo(egress_id="EG_1", status=COMPLETE, updated_at=2)
    with pytest.raises(EgressError):
        await client.update(active)
    await client.update(ended)
    assert keeper.announced == [(ACTIVE, 1), (COMPLETE, 2)]


async def test_a_record_that_is_not_there(client: IOInfoClient) -> None:
    assert await client.get("EG_none") is None


async def test_what_others_have_ended_stays_ended(keeper: Keeper, client: IOInfoClient) -> None:
    keeper.records["EG_1"] = EgressInfo(egress_id="EG_1", status=FAILED, updated_at=5)
    client.doubt("EG_1")
    await client.update(EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=6))
    await client.update(EgressInfo(egress_id="EG_1", status=COMPLETE, updated_at=7))
    assert keeper.announced == []
    assert keeper.records["EG_1"].status == FAILED


async def test_a_worker_that_was_out_of_reach_wakes_no_ended_record(
    keeper: Keeper, client: IOInfoClient, reach: Reach
) -> None:
    active = EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=4)
    await client.update(active)
    reach.was_lost = True
    await client.update(EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=5))
    keeper.records["EG_1"] = EgressInfo(egress_id="EG_1", status=FAILED, updated_at=6)
    await client.update(EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=7))
    assert keeper.announced == [(ACTIVE, 4), (ACTIVE, 5)]
    assert keeper.records["EG_1"].status == FAILED


async def test_a_keeper_of_ours_learns_of_the_files(keeper: Keeper, client: IOInfoClient) -> None:
    keeper.records["EG_1"] = EgressInfo(egress_id="EG_1", status=FAILED, updated_at=5)
    revised: list[EgressInfo] = []

    async def revise(info: EgressInfo) -> Empty:
        revised.append(info)
        return Empty()

    server = RPCServer(client._client._bus)
    await server.register(IOInfo.REVISE_EGRESS, revise)
    client.doubt("EG_1")
    ended = EgressInfo(egress_id="EG_1", status=COMPLETE, updated_at=7)
    await client.update(ended)
    assert revised == [ended] and keeper.announced == []
    await server.close()


async def test_an_offer_is_waited_for_as_long_as_configured() -> None:
    bus = MemoryBus()
    caller = RPCClient(bus)
    client = IOInfoClient(caller, 5.0, 5.0, 0.05)
    begun_s = asyncio.get_running_loop().time()
    for call in (client.create, client.update):
        with pytest.raises(EgressError, match="no response from servers"):
            await call(EgressInfo(egress_id="EG_1"))
    assert asyncio.get_running_loop().time() - begun_s < 0.9
    await caller.close()
    await bus.close()


@pytest.mark.parametrize(("status", "is_taken"), [(ACTIVE, False), (COMPLETE, True)])
async def test_a_part_is_added_by_the_keeper_only_to_what_has_ended(
    keeper: Keeper, client: IOInfoClient, status: EgressStatus, is_taken: bool
) -> None:
    """Until then the next update of its worker, which does not know of the part, would take it away. A
    livekit-server, as this keeper is, has no method for it."""
    keeper.records["EG_1"] = EgressInfo(egress_id="EG_1", status=status)
    part = EgressInfo(egress_id="EG_1", status=FAILED)
    if is_taken:
        await client.add_part(part)
    else:
        with pytest.raises(EgressError) as refused:
            await client.add_part(part)
        assert refused.value.code is Code.FAILED_PRECONDITION
    await client.add_part(EgressInfo(egress_id="EG_2", status=FAILED))
