"""Calls over the bus, as they are counted under psrpc's names."""

import asyncio
import time
from typing import Any

import pytest
from livekit.protocol.egress import EgressInfo, StopEgressRequest
from prometheus_client import CollectorRegistry

from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import ListActiveEgressRequest, ListActiveEgressResponse
from openegress.proto.psrpc_pb2 import Request
from openegress.psrpc import channels
from openegress.psrpc.client import RPCClient
from openegress.psrpc.envelope import seal
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal, Method
from openegress.worker.bus_metrics import BusMetrics
from testkit.multi_call import call_all

STOP, LIST = EgressHandler.STOP_EGRESS, EgressInternal.LIST_ACTIVE_EGRESS
NODE = {"node_id": "NE_1", "node_type": "EGRESS"}


class Watched(BusMetrics):
    """Says when a request came too late."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(NODE["node_id"], registry)
        self.was_late = asyncio.Event()

    def expired(self, method: Method[Any, Any]) -> None:
        super().expired(method)
        self.was_late.set()


class World:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bus = MemoryBus()
        metrics = self.metrics = Watched(self.registry)
        self.server = RPCServer(self.bus, observer=metrics)
        self.client = RPCClient(self.bus, observer=metrics)

    def value(self, name: str, method: Method[Any, Any], **labels: str) -> float:
        labels = {"service": method.service, "method": method.name, **NODE, **labels}
        return self.registry.get_sample_value(f"livekit_psrpc_{name}", labels) or 0.0

    async def close(self) -> None:
        await self.client.close()
        await self.server.close()


@pytest.fixture
async def world() -> Any:
    world = World()
    yield world
    await world.close()


async def stop(request: StopEgressRequest) -> EgressInfo:
    if request.egress_id == "none":
        raise EgressError(Code.NOT_FOUND, "egress not found")
    return EgressInfo(egress_id=request.egress_id)


async def test_a_call_counts_on_both_sides(world: World) -> None:
    await world.server.register(STOP, stop)
    request = StopEgressRequest(egress_id="EG_1")
    answer = await world.client.call(STOP, request)
    for role in ("client", "server"):
        call = {"role": role, "kind": "rpc"}
        assert world.value("request_time_ms_count", STOP, **call) == 1
        assert world.value("bytes_total", STOP, direction="rx", **call) == request.ByteSize()
        assert world.value("bytes_total", STOP, direction="tx", **call) == answer.ByteSize()
    assert world.value("requests_received_total", STOP) == 1
    assert world.value("claim_wait_time_ms_count", STOP, outcome="granted") == 1


async def test_an_error_counts_with_its_code(world: World) -> None:
    await world.server.register(STOP, stop)
    with pytest.raises(EgressError, match="not found"):
        await world.client.call(STOP, StopEgressRequest(egress_id="none"))
    for role in ("client", "server"):
        call = {"role": role, "kind": "rpc"}
        assert world.value("error_total", STOP, error_code="not_found", **call) == 1
        assert world.value("request_time_ms_count", STOP, **call) == 0
    with pytest.raises(EgressError, match="no response"):
        await world.client.call(EgressHandler.UPDATE_STREAM, EgressHandler.UPDATE_STREAM.request())
    unavailable = {"role": "client", "kind": "rpc", "error_code": "unavailable"}
    assert world.value("error_total", EgressHandler.UPDATE_STREAM, **unavailable) == 1


async def test_a_call_to_everybody(world: World) -> None:
    async def active(request: ListActiveEgressRequest) -> ListActiveEgressResponse:
        return ListActiveEgressResponse(egress_ids=["EG_1"])

    await world.server.register(LIST, active)
    await call_all(world.bus, LIST, ListActiveEgressRequest(), expect=1)
    assert world.value("request_time_ms_count", LIST, role="server", kind="multirpc") == 1


async def test_a_server_that_is_not_chosen_and_a_request_that_is_late(world: World) -> None:
    other = RPCServer(world.bus)
    method = EgressInternal.START_EGRESS

    async def start(request: Any) -> EgressInfo:
        return EgressInfo(egress_id="EG_1")

    await world.server.register(method, start, affinity=lambda request: 0.4)
    await other.register(method, start, affinity=lambda request: 1.0)
    await world.client.call(method, method.request(egress_id="EG_1"))
    expired = Request(request_id="REQ_1", client_id="CLI_1", expiry=time.time_ns() - 1)
    await world.bus.publish(channels.requests(method.service, method.name, ""), seal(expired))
    async with asyncio.timeout(10):
        await world.metrics.was_late.wait()
    assert world.value("requests_expired_total", method) == 1
    assert world.value("requests_received_total", method) == 2
    assert world.value("claim_wait_time_ms_count", method, outcome="lost_to_peer") == 1
    await other.close()
