"""What a worker's own pages offer of the Egress API: its egresses, listed and stopped over the bus."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    FileInfo,
    StopEgressRequest,
    UpdateLayoutRequest,
)
from structlog.testing import capture_logs

from openegress.api.control import ControlMethods
from openegress.api.own_egresses import OwnEgresses
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core.errors import Code, EgressError
from openegress.core.tokens import egress_token
from openegress.proto.egress_rpc_pb2 import GetEgressRequest
from openegress.proto.openegress_control_pb2 import ClipInfo, ClipRequest, CutRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal, IOInfo
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

    async def apply_order(request: UpdateLayoutRequest) -> EgressInfo:
        asked.append((request.egress_id, request.layout))
        return EgressInfo(egress_id=request.egress_id, details="Paused")

    worker = RPCServer(bus)
    await worker.register(EgressHandler.ORDER, apply_order, "EG_1")
    status, answer = await call(url, "PauseEgress", service="openegress.Control", egress_id="EG_1")
    assert (status, answer["details"], asked) == (200, "Paused", [("EG_1", "@pause")])
    status, answer = await call(url, "ResumeEgress", service="openegress.Control", egress_id="EG_9")
    assert (status, answer["msg"]) == (404, "no worker runs an egress 'EG_9': it may have ended")
    await worker.close()


async def test_a_clip_is_made_by_whoever_has_the_recording(url: str, bus: MemoryBus) -> None:
    """Of one that runs here, of one that a livekit-server has on record, in JSON and in protobuf."""
    asked: list[tuple[str, str]] = []

    async def clip(request: CutRequest) -> ClipInfo:
        asked.append((request.egress.egress_id, request.egress.room_name))
        made = ClipInfo(egress=request.egress, clip=FileInfo(filename=request.asked.filepath), to=5)
        setattr(made, "from", 3)
        return made

    async def on_record(request: GetEgressRequest) -> EgressInfo:
        if request.egress_id != "EG_7":
            raise EgressError(Code.NOT_FOUND, "not found")
        return EgressInfo(egress_id="EG_7", room_name="over", status=EgressStatus.EGRESS_COMPLETE)

    server = RPCServer(bus)
    await server.register(IOInfo.GET_EGRESS, on_record)
    control = {"service": "openegress.Control"}
    status, answer = await call(url, "Clip", egress_id="EG_1", last="30s", **control)
    assert (status, answer["msg"]) == (503, "no worker has the recording of 'EG_1'")
    await server.register(EgressInternal.CLIP, clip, "")
    status, answer = await call(url, "Clip", egress_id="EG_1", last="30s", filepath="x", **control)
    assert (status, answer["clip"]["filename"], answer["from"], answer["to"]) == (200, "x", "3", "5")
    assert answer["egress"]["egress_id"] == "EG_1"
    status, answer = await call(url, "Clip", egress_id="EG_9", last="30s", **control)
    assert (status, answer["msg"]) == (404, "no worker runs an egress 'EG_9': it may have ended")
    status, answer = await call(url, "Clip", egress_id="EG_7", **{"from": "1:00", "to": "0:30"}, **control)
    assert (status, answer["msg"]) == (400, "from: 60 s is not before to, which is 30 s")
    headers = {
        "Authorization": f"Bearer {egress_token('key', KEYS['key'])}",
        "Content-Type": "application/protobuf",
    }
    body = ClipRequest(egress_id="EG_7", to="1:00").SerializeToString()
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/twirp/openegress.Control/Clip", data=body, headers=headers) as got,
    ):
        assert getattr(ClipInfo.FromString(await got.read()), "from") == 3
    assert asked == [("EG_1", "a"), ("EG_7", "over")]
    await server.close()


async def test_refusals(url: str) -> None:
    status, answer = await call(url, "StopEgress", egress_id="EG_9")
    assert (status, answer["code"]) == (404, "not_found")
    assert answer["msg"] == "no worker runs an egress 'EG_9': it may have ended"
    assert (await call(url, "StopEgress", token="x.y.z", egress_id="EG_1"))[0] == 401
    assert (await call(url, "StartTrackEgress", room_name="a"))[0] == 404
