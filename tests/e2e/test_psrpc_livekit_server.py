"""The wire against a stock livekit-server: its API asks, we answer over Redis, it keeps the records."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from livekit import api
from livekit.protocol.egress import EgressInfo, EgressStatus, StopEgressRequest, UpdateStreamRequest

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import GetEgressRequest, StartEgressRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal, IOInfo
from testkit.livekit_server import LivekitServer
from testkit.redis_server import RedisServer


@dataclass
class Worker:
    """Answers as a worker does, without recording anything."""

    bus: RedisBus
    wish: float | EgressError = 1.0
    asked: list[StartEgressRequest] = field(default_factory=list)

    async def start(self) -> None:
        self.server, self.client = RPCServer(self.bus), RPCClient(self.bus)
        await self.server.register(EgressInternal.START_EGRESS, self._start, affinity=lambda _: self.wish)

    async def close(self) -> None:
        await self.server.close()
        await self.client.close()
        await self.bus.close()

    async def _start(self, request: StartEgressRequest) -> EgressInfo:
        self.asked.append(request)
        info = EgressInfo(
            egress_id=request.egress_id,
            room_name=request.room_name,
            started_at=1,
            updated_at=1,
            web=request.web,
        )
        topic = request.egress_id
        await self.server.register(EgressHandler.STOP_EGRESS, self._stop, topic)
        await self.server.register(EgressHandler.UPDATE_STREAM, self._update_stream, topic)
        await self.client.call(IOInfo.CREATE_EGRESS, info)
        return info

    async def _stop(self, request: StopEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id, status=EgressStatus.EGRESS_ENDING, updated_at=3)

    async def _update_stream(self, request: UpdateStreamRequest) -> EgressInfo:
        raise EgressError(Code.INVALID_ARGUMENT, "UpdateStream called on non-streaming egress")


@dataclass
class World:
    redis: RedisServer
    egress: api.egress_service.EgressService
    worker: Worker


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with RedisServer() as redis, LivekitServer(redis_url=redis.url) as livekit:
        worker = Worker(RedisBus(RedisSettings(address=redis.address)))
        await worker.start()
        yield World(redis, livekit.livekit_api().egress, worker)
        await worker.close()


WEB = api.WebEgressRequest(url="https://example.com", file_outputs=[api.EncodedFileOutput(filepath="a.mp4")])


async def test_a_life_of_an_egress(world: World) -> None:
    egress, client = world.egress, world.worker.client
    took_s = []
    for _ in range(3):
        began = asyncio.get_running_loop().time()
        started = await egress.start_web_egress(WEB)
        took_s.append(asyncio.get_running_loop().time() - began)
    assert started.egress_id.startswith("EG_")
    assert started.web.url == "https://example.com"
    assert world.worker.asked[2].egress_id == started.egress_id
    assert min(took_s) < 0.5  # affinity 1 is taken at once, without the short-circuit time

    active = EgressInfo(
        egress_id=started.egress_id, status=EgressStatus.EGRESS_ACTIVE, started_at=1, updated_at=2
    )
    await client.call(IOInfo.UPDATE_EGRESS, active)
    assert await client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id=started.egress_id)) == active
    listed = (await egress.list_egress(api.ListEgressRequest(active=True))).items
    assert len(listed) == len(took_s) and active in listed

    stopped = await egress.stop_egress(api.StopEgressRequest(egress_id=started.egress_id))
    assert stopped.status == EgressStatus.EGRESS_ENDING


async def test_errors_arrive_as_they_were_raised(world: World) -> None:
    started = await world.egress.start_web_egress(WEB)
    with pytest.raises(api.TwirpError, match="UpdateStream called on non-streaming egress") as caught:
        await world.egress.update_stream(
            api.UpdateStreamRequest(egress_id=started.egress_id, add_output_urls=["rtmp://a/b/c"])
        )
    assert (caught.value.code, caught.value.status) == ("invalid_argument", 400)
    with pytest.raises(EgressError, match=r"egress does not exist|egress not found") as missing:
        await world.worker.client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id="EG_none"))
    assert missing.value.code is Code.NOT_FOUND


async def test_a_refusal_reaches_the_caller_with_its_reason(world: World) -> None:
    world.worker.wish = EgressError(Code.FAILED_PRECONDITION, "0.2 of 2 cores are free, this needs 0.8")
    began = asyncio.get_running_loop().time()
    with pytest.raises(api.TwirpError, match=r"0\.2 of 2 cores are free, this needs 0\.8"):
        await world.egress.start_web_egress(WEB)
    assert asyncio.get_running_loop().time() - began < 5
    world.worker.wish = 1.0
    assert (await world.egress.start_web_egress(WEB)).egress_id


async def test_of_two_workers_one_starts_each_egress_and_none_starts_twice(world: World) -> None:
    other = Worker(RedisBus(RedisSettings(address=world.redis.address)))
    await other.start()
    infos = await asyncio.gather(*(world.egress.start_web_egress(WEB) for _ in range(20)))
    asked = [request.egress_id for request in (*world.worker.asked, *other.asked)]
    assert sorted(asked) == sorted(info.egress_id for info in infos)
    await other.close()


async def test_a_redis_that_restarts_is_survived_by_both_ends(world: World) -> None:
    await world.egress.start_web_egress(WEB)
    await world.redis.restart()
    await world.worker.bus.subscribe("back")
    async with asyncio.timeout(30):
        while True:
            try:
                started = await world.egress.start_web_egress(WEB)
                break
            except api.TwirpError:
                continue  # livekit-server finds its own way back; each attempt of ours takes its time
    assert started.egress_id == world.worker.asked[-1].egress_id
