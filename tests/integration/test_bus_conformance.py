"""One suite for every bus: what psrpc needs of it, and calls from end to end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import pytest_asyncio
from livekit.protocol.egress import EgressInfo, StopEgressRequest

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import (
    ListActiveEgressRequest,
    ListActiveEgressResponse,
    StartEgressRequest,
)
from openegress.psrpc import Bus, Subscription, channels
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.server import RPCServer, incoming
from openegress.psrpc.services import ONCE, EgressHandler, EgressInternal
from testkit.multi_call import call_all
from testkit.redis_server import RedisServer

START = EgressInternal.START_EGRESS
STOP = EgressHandler.STOP_EGRESS


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["memory", "redis", "cluster"], scope="module", loop_scope="module")
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisSettings | None]:
    """Where the bus is; None: in this process."""
    if request.param == "memory":
        yield None
        return
    async with RedisServer(cluster=request.param == "cluster") as server:
        if request.param == "cluster":
            yield RedisSettings(cluster_addresses=(server.address,))
        else:
            yield RedisSettings(address=server.address)


@pytest_asyncio.fixture(loop_scope="module")
async def buses(redis: RedisSettings | None) -> AsyncIterator[list[Bus]]:
    """Three ends of one bus: on Redis each with its own connection, in memory one and the same."""
    if redis is None:
        bus = MemoryBus()
        yield [bus, bus, bus]
        await bus.close()
        return
    ends = [RedisBus(redis) for _ in range(3)]
    for end in ends:
        await end.ping()  # connected: what is measured below is the protocol
    yield list(ends)
    for end in ends:
        await end.close()


async def take(subscription: Subscription, count: int) -> list[bytes]:
    taken: list[bytes] = []
    async with asyncio.timeout(5):
        async for payload in subscription:
            taken.append(payload)
            if len(taken) == count:
                break
    return taken


async def test_every_subscriber_gets_every_payload_in_order(buses: list[Bus]) -> None:
    publisher, *others = buses
    subscriptions = [await bus.subscribe("a|b") for bus in others]
    elsewhere = await others[0].subscribe("a|c")
    payloads = [bytes([n, 0xFF, 0x00]) for n in range(50)]
    for payload in payloads:
        await publisher.publish("a|b", payload)
    await publisher.publish("a|c", b"end")
    for subscription in subscriptions:
        assert await take(subscription, 50) == payloads
    assert await take(elsewhere, 1) == [b"end"]


async def test_one_of_a_queue_gets_each_payload(buses: list[Bus]) -> None:
    publisher, *others = buses
    taken: list[bytes] = []
    all_there = asyncio.Event()

    async def drain(subscription: Subscription) -> None:
        async for payload in subscription:
            taken.append(payload)
            if payload == b"last" or len(taken) >= 20:
                all_there.set()

    queues = [await bus.subscribe_queue("q") for bus in (*others, others[0])]
    readers = [asyncio.create_task(drain(queue)) for queue in queues]
    payloads = [f"payload {n}".encode() for n in range(20)]
    for payload in payloads:
        await publisher.publish("q", payload)
    async with asyncio.timeout(5):
        await all_there.wait()
    for queue in queues:
        await queue.close()
    await asyncio.gather(*readers)
    assert sorted(taken) == sorted(payloads)


async def test_a_closed_subscription_ends_and_the_others_go_on(buses: list[Bus]) -> None:
    first = await buses[1].subscribe("c")
    second = await buses[1].subscribe("c")
    await first.close()
    await first.close()
    await buses[0].publish("c", b"x")
    assert [payload async for payload in first] == []
    assert await take(second, 1) == [b"x"]


async def test_a_call_reaches_the_server_and_its_answer_returns(buses: list[Bus]) -> None:
    seen: list[dict[str, str]] = []

    async def stop(request: StopEgressRequest) -> EgressInfo:
        seen.append(incoming.get().metadata)
        return EgressInfo(egress_id=request.egress_id, room_name="r")

    server, client = RPCServer(buses[0]), RPCClient(buses[1])
    await server.register(STOP, stop, topic="EG_1")
    info = await client.call(STOP, StopEgressRequest(egress_id="EG_1"), topic="EG_1", metadata={"k": "v"})
    assert (info.egress_id, info.room_name) == ("EG_1", "r")
    assert seen == [{"k": "v"}]
    await client.close()
    await server.close()


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (EgressError(Code.NOT_FOUND, "egress not found"), Code.NOT_FOUND, "egress not found"),
        (EgressError(Code.DATALOSS, "gone"), Code.DATALOSS, "gone"),
        (EgressError(Code.INTERNAL, ""), Code.INTERNAL, "internal"),
        (ValueError("password=hunter2"), Code.INTERNAL, "internal error, logged by the server under REQ_"),
    ],
)
async def test_errors_travel_without_secrets(
    buses: list[Bus], raised: Exception, code: Code, text: str
) -> None:
    async def stop(request: StopEgressRequest) -> EgressInfo:
        raise raised

    server, client = RPCServer(buses[0]), RPCClient(buses[1])
    await server.register(STOP, stop)
    with pytest.raises(EgressError) as caught:
        await client.call(STOP, StopEgressRequest())
    assert caught.value.code is code
    assert caught.value.message.startswith(text)
    assert "hunter2" not in caught.value.message
    await client.close()
    await server.close()


def always(affinity: float, _: StartEgressRequest) -> float:
    return affinity


def answering(name: str) -> Callable[[StartEgressRequest], Awaitable[EgressInfo]]:
    async def start(request: StartEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id, details=name)

    return start


async def test_the_idle_server_wins_without_delay(buses: list[Bus]) -> None:
    clients = RPCClient(buses[0])
    servers = []
    for name, affinity, bus in (("busy", 0.5, buses[1]), ("idle", 1.0, buses[2]), ("full", -1.0, buses[0])):
        server = RPCServer(bus)
        await server.register(START, answering(name), affinity=partial(always, affinity))
        servers.append(server)
    durations = []
    for n in range(5):
        began = asyncio.get_running_loop().time()
        info = await clients.call(START, StartEgressRequest(egress_id=f"EG_{n}"))
        durations.append(asyncio.get_running_loop().time() - began)
        assert (info.egress_id, info.details) == (f"EG_{n}", "idle")
    assert min(durations) < 0.4
    await clients.close()
    for server in servers:
        await server.close()


async def test_the_server_that_hesitates_less_wins(buses: list[Bus]) -> None:
    client = RPCClient(buses[0])
    servers = []
    for hesitation_s, bus in ((0.3, buses[1]), (0.0, buses[2])):
        server = RPCServer(bus)
        start = answering(str(hesitation_s))
        await server.register(START, start, affinity=lambda _: 1.0, hesitation_s=partial(float, hesitation_s))
        servers.append(server)
    answers = [(await client.call(START, StartEgressRequest())).details for _ in range(5)]
    # Within a process nobody hesitates, and the first to be asked is the first to claim.
    assert answers == ["0.3" if buses[0].in_process else "0.0"] * 5
    await client.close()
    for server in servers:
        await server.close()


async def test_what_a_server_has_no_room_for_any_more_goes_to_another(buses: list[Bus]) -> None:
    client, first, second = RPCClient(buses[0]), RPCServer(buses[1]), RPCServer(buses[2])
    has_room = True

    def hesitation_s() -> float:
        nonlocal has_room
        has_room = False  # meanwhile
        return 0.05

    await first.register(
        START,
        answering("first"),
        affinity=lambda _: 1.0 if has_room else -1.0,
        hesitation_s=hesitation_s,
    )
    await second.register(START, answering("second"), affinity=lambda _: 1.0, hesitation_s=lambda: 0.3)
    answer = await client.call(START, StartEgressRequest(), retry=ONCE)
    assert answer.details == ("first" if buses[0].in_process else "second")
    await client.close()
    await first.close()
    await second.close()


async def test_the_better_of_two_busy_servers_wins_after_the_short_circuit(buses: list[Bus]) -> None:
    client = RPCClient(buses[0])
    servers = []
    for affinity, bus in ((0.5, buses[1]), (0.75, buses[2])):
        server = RPCServer(bus)
        await server.register(START, answering(str(affinity)), affinity=partial(always, affinity))
        servers.append(server)
    began = asyncio.get_running_loop().time()
    assert (await client.call(START, StartEgressRequest())).details == "0.75"
    assert asyncio.get_running_loop().time() - began > 0.45
    await client.close()
    for server in servers:
        await server.close()


async def test_nobody_there(buses: list[Bus]) -> None:
    client = RPCClient(buses[0])
    with pytest.raises(EgressError, match=r"^no response from servers$") as caught:
        await client.call(START, StartEgressRequest(), retry=ONCE)
    assert caught.value.code is Code.UNAVAILABLE
    await client.close()


async def test_a_refusal_says_why_unless_another_takes_the_call(buses: list[Bus]) -> None:
    async def start(request: StartEgressRequest) -> EgressInfo:
        return EgressInfo(details="taken")

    full = EgressError(Code.RESOURCE_EXHAUSTED, "0.2 of 2 cores are free, this needs 0.8")
    client, refusing, other = RPCClient(buses[0]), RPCServer(buses[1]), RPCServer(buses[2])
    await refusing.register(START, start, affinity=lambda request: full)
    with pytest.raises(EgressError, match=r"^0\.2 of 2 cores are free") as caught:
        await client.call(START, StartEgressRequest(), retry=ONCE)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    await other.register(START, start, affinity=lambda request: 0.5)
    assert (await client.call(START, StartEgressRequest(), retry=ONCE)).details == "taken"
    await client.close()
    await refusing.close()
    await other.close()


async def test_an_attempt_that_is_refused_is_tried_again(buses: list[Bus]) -> None:
    asked = 0

    def affinity(request: StartEgressRequest) -> float:
        nonlocal asked
        asked += 1
        return -1.0 if asked == 1 else 1.0

    async def start(request: StartEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id="EG_1")

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    await server.register(START, start, affinity=affinity)
    assert (await client.call(START, StartEgressRequest())).egress_id == "EG_1"
    assert asked == 2
    await client.close()
    await server.close()


async def test_a_silent_server_times_the_call_out(buses: list[Bus]) -> None:
    let_go = asyncio.Event()

    async def stop(request: StopEgressRequest) -> EgressInfo:
        await let_go.wait()
        return EgressInfo()

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    await server.register(STOP, stop)
    with pytest.raises(EgressError, match=r"^request timed out$") as caught:
        await client.call(STOP, StopEgressRequest(), timeout_s=0.3)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    let_go.set()
    await client.close()
    await server.close()


async def test_a_multi_call_collects_every_answer(buses: list[Bus]) -> None:
    servers = []
    for egress_id, bus in (("EG_1", buses[1]), ("EG_2", buses[2])):

        async def active(request: ListActiveEgressRequest, one: str = egress_id) -> ListActiveEgressResponse:
            return ListActiveEgressResponse(egress_ids=[one])

        server = RPCServer(bus)
        await server.register(EgressInternal.LIST_ACTIVE_EGRESS, active)
        servers.append(server)
    answers = await call_all(buses[0], EgressInternal.LIST_ACTIVE_EGRESS, ListActiveEgressRequest(), expect=2)
    assert sorted(one for answer in answers for one in answer.egress_ids) == ["EG_1", "EG_2"]
    for server in servers:
        await server.close()


async def test_an_expired_request_and_a_foreign_payload_are_dropped(buses: list[Bus]) -> None:
    handled: list[str] = []

    async def stop(request: StopEgressRequest) -> EgressInfo:
        handled.append(request.egress_id)
        return EgressInfo()

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    await server.register(STOP, stop)
    await buses[0].publish(channels.requests(STOP.service, STOP.name), b"\xff not an envelope")
    with pytest.raises(EgressError):
        await client.call(STOP, StopEgressRequest(egress_id="late"), timeout_s=-1.0)
    await client.call(STOP, StopEgressRequest(egress_id="in time"))
    assert handled == ["in time"]
    await client.close()
    await server.close()


async def test_a_closed_registration_takes_no_more_calls_but_ends_its_own(buses: list[Bus]) -> None:
    entered, let_go = asyncio.Event(), asyncio.Event()

    async def stop(request: StopEgressRequest) -> EgressInfo:
        entered.set()
        await let_go.wait()
        return EgressInfo(egress_id="done")

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    registration = await server.register(STOP, stop)
    call = asyncio.create_task(client.call(STOP, StopEgressRequest()))
    await entered.wait()
    closing = asyncio.create_task(registration.close())
    let_go.set()
    assert (await call).egress_id == "done"
    await closing
    with pytest.raises(EgressError, match="no response from servers"):
        await client.call(STOP, StopEgressRequest())
    await client.close()
    await server.close()


async def test_a_claim_that_is_chosen_while_its_server_closes_is_answered(buses: list[Bus]) -> None:
    claimed = asyncio.Event()

    def affinity(request: StartEgressRequest) -> float:
        claimed.set()
        return 0.5

    async def start(request: StartEgressRequest) -> EgressInfo:
        return EgressInfo(details="answered")

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    registration = await server.register(START, start, affinity=affinity)
    call = asyncio.create_task(client.call(START, StartEgressRequest(), retry=ONCE))
    await claimed.wait()
    await registration.close()  # the client chooses half a second after the claim
    assert (await call).details == "answered"
    await client.close()
    await server.close()


async def test_a_client_that_stood_still_still_hears_who_is_there(buses: list[Bus]) -> None:
    """Its time is over before it has read the first claim."""
    client, server = RPCClient(buses[0]), RPCServer(buses[1])

    async def start(request: StartEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id)

    def affinity(_: StartEgressRequest) -> float:
        time.sleep(1.5)  # in the loop of both
        return 0.5

    await server.register(START, start, affinity=affinity)
    answer = await client.call(START, StartEgressRequest(egress_id="EG_1"), retry=ONCE)
    assert answer.egress_id == "EG_1"
    await client.close()
    await server.close()


@pytest.mark.quiet
async def test_hundreds_of_calls_at_once_are_all_answered(buses: list[Bus]) -> None:
    async def stop(request: StopEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id)

    client, server = RPCClient(buses[0]), RPCServer(buses[1])
    await server.register(STOP, stop)
    ids = [f"EG_{n}" for n in range(300)]
    answers = await asyncio.gather(
        *(client.call(STOP, StopEgressRequest(egress_id=one), timeout_s=30) for one in ids)
    )
    assert [answer.egress_id for answer in answers] == ids
    await client.close()
    await server.close()
