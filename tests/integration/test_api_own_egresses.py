"""What a worker's own pages offer of the Egress API: its egresses, listed and stopped over the bus."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, StopEgressRequest, UpdateLayoutRequest
from structlog.testing import capture_logs

from openegress.api.control import ControlMethods
from openegress.api.own_egresses import OwnEgresses
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core.errors import Code, EgressError
from openegress.core.tokens import egress_token
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler
from openegress.request.unknown import UnknownFields

KEYS = {"key": "a secret of more than thirty-two bytes"}
INFOS = [
    EgressInfo(egress_id="EG_1", room_name="a", status=EgressStatus.EGRESS_ACTIVE),
    EgressInfo(egress_id="EG_2", room_name="b", status=EgressStatus.EGRESS_ENDING),
    EgressInfo(egress_id="EG_3", room_name="b", status=EgressStatus.EGRESS_COMPLETE),
]


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    yield bus
    await bus.close()


@pytest.fixture
async def url(bus: MemoryBus) -> AsyncIterator[str]:
    client = RPCClient(bus)
    own = OwnEgresses(client, lambda: INFOS)
    server = ApiServer(Listen(port=0), Parts(KEYS, own, control=ControlMethods(own)))
    await server.start()
    yield server.url
    await server.close()
    await client.close()


async def call(
    url: str, method: str, *, token: str = "", service: str = "livekit.Egress", **body: Any
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token or egress_token('key', KEYS['key'])}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/twirp/{service}/{method}", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None) if answer.status != 401 else {}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["EG_1", "EG_2", "EG_3"]),
        ({"egress_id": "EG_2"}, ["EG_2"]),
        ({"egress_id": "EG_9"}, []),
        ({"room_name": "b"}, ["EG_2", "EG_3"]),
        ({"active": True}, ["EG_1", "EG_2"]),
    ],
)
async def test_list(url: str, asked: dict[str, Any], found: list[str]) -> None:
    status, answer = await call(url, "ListEgress", **asked)
    assert (status, [item["egress_id"] for item in answer["items"]]) == (200, found)


async def test_a_filter_that_nobody_knows_is_told_or_refused(url: str, bus: MemoryBus) -> None:
    with capture_logs() as logged:
        status, answer = await call(url, "ListEgress", roomname="b", active=True)
    assert (status, len(answer["items"])) == (200, 2)
    told = [(each["path"], each["notice"]) for each in logged if "notice" in each]
    assert told == [("/twirp/livekit.Egress/ListEgress", "ignored, as not known here: roomname")]
    client = RPCClient(bus)
    offered = Parts(KEYS, OwnEgresses(client, lambda: INFOS), unknown_fields=UnknownFields.REFUSE)
    server = ApiServer(Listen(port=0), offered)
    await server.start()
    status, answer = await call(server.url, "ListEgress", roomname="b")
    assert (status, answer["code"]) == (400, "invalid_argument")
    assert answer["msg"] == "request has missing or invalid field: roomname (not known here)"
    await server.close()
    await client.close()


async def test_stop_reaches_the_worker_that_runs_it(url: str, bus: MemoryBus) -> None:
    asked: list[str] = []

    async def stop(request: StopEgressRequest) -> EgressInfo:
        asked.append(request.egress_id)
        if len(asked) > 1:
            raise EgressError(Code.INVALID_ARGUMENT, "not so")
        return EgressInfo(egress_id=request.egress_id, status=EgressStatus.EGRESS_ENDING)

    worker = RPCServer(bus)
    await worker.register(EgressHandler.STOP_EGRESS, stop, "EG_1")
    status, answer = await call(url, "StopEgress", egress_id="EG_1")
    assert (status, answer["status"], asked) == (200, "EGRESS_ENDING", ["EG_1"])
    status, answer = await call(url, "StopEgress", egress_id="EG_1")
    assert (status, answer["msg"]) == (400, "not so")
    await worker.close()


async def test_an_order_reaches_the_worker_that_runs_it(url: str, bus: MemoryBus) -> None:
    asked: list[tuple[str, str]] = []

    async def obey(request: UpdateLayoutRequest) -> EgressInfo:
        asked.append((request.egress_id, request.layout))
        return EgressInfo(egress_id=request.egress_id, details="Paused")

    worker = RPCServer(bus)
    await worker.register(EgressHandler.ORDER, obey, "EG_1")
    status, answer = await call(url, "PauseEgress", service="openegress.Control", egress_id="EG_1")
    assert (status, answer["details"], asked) == (200, "Paused", [("EG_1", "@pause")])
    status, answer = await call(url, "ResumeEgress", service="openegress.Control", egress_id="EG_9")
    assert (status, answer["msg"]) == (404, "no worker runs an egress 'EG_9': it may have ended")
    await worker.close()


async def test_refusals(url: str) -> None:
    status, answer = await call(url, "StopEgress", egress_id="EG_9")
    assert (status, answer["code"]) == (404, "not_found")
    assert answer["msg"] == "no worker runs an egress 'EG_9': it may have ended"
    assert (await call(url, "StopEgress", token="x.y.z", egress_id="EG_1"))[0] == 401
    assert (await call(url, "StartTrackEgress", room_name="a"))[0] == 404
