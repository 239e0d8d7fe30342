"""Of calls about an egress that runs: every field has an effect or is refused, what nobody knows is told."""

import json
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from google.protobuf import json_format
from google.protobuf.message import Message
from livekit.protocol import egress as wire

from openegress.api import wire_json
from openegress.api.control import ControlMethods
from openegress.api.egress import ApiPolicy, EgressService
from openegress.api.own_egresses import OwnEgresses
from openegress.core.errors import MAX_MESSAGE_CHARS, Code, EgressError
from openegress.core.events import Ending, EndReason
from openegress.core.plan import Plan, StreamTarget
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto import today
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, SetOptionsRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.unknown import CARRIER, UnknownFields, length_delimited
from openegress.request.validate import plan_of
from openegress.store import Announce, Change, Store
from openegress.store.ioinfo import IOInfoService
from openegress.worker.handler_calls import HandlerCalls
from openegress.worker.job import Job
from openegress.worker.records import Record
from openegress.worker.supervisor import Supervisor
from openegress.worker.unreported import Unreported

COMPOSITE = "room_composite"


def info_of(egress_id: str, room: str = "r") -> wire.EgressInfo:
    info = wire.EgressInfo(egress_id=egress_id, room_name=room, status=wire.EgressStatus.EGRESS_ACTIVE)
    info.room_composite.room_name = room
    return info


class Kept:
    """A store, and the rooms; what is asked of them."""

    def __init__(self) -> None:
        self.infos = {one: info_of(one, room) for one, room in (("EG_1", "r"), ("EG_2", "s"))}
        self.infos["EG_2"].status = wire.EgressStatus.EGRESS_COMPLETE
        self.asked: list[object] = []

    async def get(self, egress_id: str) -> wire.EgressInfo | None:
        return self.infos.get(egress_id)

    async def apply(self, info: wire.EgressInfo, announce: Announce | None) -> Change:
        self.infos[info.egress_id] = info
        return Change.UPDATED

    async def list(self, room: str, active: bool) -> Sequence[wire.EgressInfo]:
        self.asked.append((room, active))
        return list(self.infos.values())

    async def revision(self) -> int:
        return 1

    async def set_metadata(self, room: str, identity: str, metadata: str) -> None:
        self.asked.append((room, identity, metadata))


class Running:
    """A job of which only what is asked counts; a supervisor that has it under two ids."""

    def __init__(self, record: Record, plan: Plan) -> None:
        self.record, self.plan = record, plan
        self.asked: list[object] = []

    def get(self, egress_id: str) -> Job | None:
        self.asked.append(egress_id)
        return cast("Job", self) if egress_id in ("EG_1", "EG_2") else None

    def stop(self, reason: EndReason) -> None:
        self.asked.append("stop")
        self.record.apply(Ending(reason))

    async def update_streams(self, add: tuple[StreamTarget, ...], remove: tuple[str, ...]) -> None:
        self.asked.append((add, remove))


async def delivered(info: wire.EgressInfo) -> None:
    pass


def streaming() -> tuple[wire.EgressInfo, Plan]:
    request = StartEgressRequest(egress_id="EG_1")
    request.web.url = "http://e"
    request.web.stream_outputs.add(urls=["rtmp://h/app/key"])
    plan = plan_of(request, Context(1, StoragePlan(LocalStorage("/out"))))
    return initial(request, plan, 1), plan


async def over_the_bus(
    method: Any, request: Message, manner: UnknownFields = UnknownFields.WARN
) -> tuple[Running, Any]:
    """As a livekit-server asks a worker. Returns the answer too."""
    bus = MemoryBus()
    client, server = RPCClient(bus), RPCServer(bus)
    info, plan = streaming()
    unreported = SimpleNamespace(keep=lambda info: None, forget=lambda egress_id: None)
    record = Record(info, delivered, cast("Unreported", unreported))
    running = Running(record, plan)
    calls = HandlerCalls(server, cast("Supervisor", running), lambda: manner)
    for topic in ("EG_1", "EG_2"):
        await calls.open(topic)
    try:
        answer = await client.call(method, request, topic=cast("Any", request).egress_id or "EG_1")
        return running, answer
    finally:
        await record.close()
        await server.close()
        await client.close()
        await bus.close()


async def of_a_worker(method: Any, request: Message) -> object:
    running, _ = await over_the_bus(method, request)
    return running.asked


def service(kept: Kept, bus: MemoryBus) -> EgressService:
    records = IOInfoService(cast("Store", kept))
    policy = ApiPolicy(signing_keys={"key"})
    return EgressService(RPCClient(bus), records, cast("Any", kept), policy)


async def of_the_api(call: str, request: Message) -> object:
    """Of an egress whose worker answers."""
    kept, bus = Kept(), MemoryBus()
    server = RPCServer(bus)

    async def apply_order(asked: wire.UpdateLayoutRequest) -> wire.EgressInfo:
        kept.asked.append(asked.layout)
        return kept.infos[asked.egress_id]

    await server.register(EgressHandler.ORDER, apply_order, "EG_1")
    try:
        answer = await getattr(service(kept, bus), call)(request)
    finally:
        await server.close()
    return kept.asked, answer.SerializeToString()


async def of_control(call: str, request: Message) -> object:
    ordered: list[object] = []

    async def note(*asked: object) -> wire.EgressInfo:
        ordered.append(asked)
        return wire.EgressInfo()

    methods = ControlMethods(cast("Any", SimpleNamespace(order=note, set_options=note))).methods()
    await methods[call].call(request)
    return ordered


Outcome = Callable[[Any], Awaitable[object]]
CALLS: dict[str, tuple[type[Message], dict[str, Any], Outcome]] = {
    "UpdateLayout": (
        wire.UpdateLayoutRequest,
        {"egress_id": "EG_1", "layout": "grid"},
        lambda request: of_the_api("update_layout", request),
    ),
    "UpdateStream": (
        wire.UpdateStreamRequest,
        {"egress_id": "EG_1", "add_destinations": [{"url": "rtmp://h/a/k", "id": "x"}]},
        lambda request: of_a_worker(EgressHandler.UPDATE_STREAM, request),
    ),
    "ListEgress": (wire.ListEgressRequest, {"page_token": {}}, lambda request: of_the_api("list", request)),
    "StopEgress": (
        wire.StopEgressRequest,
        {"egress_id": "EG_1"},
        lambda request: of_a_worker(EgressHandler.STOP_EGRESS, request),
    ),
    "SetOptions": (
        SetOptionsRequest,
        {"egress_id": "EG_1", "options": {"max_duration": "2h"}},
        lambda request: of_control("SetOptions", request),
    ),
    "AddMarker": (
        AddMarkerRequest,
        {"egress_id": "EG_1", "name": "x", "ago": "1s"},
        lambda request: of_control("AddMarker", request),
    ),
}
OTHERS = {"ago": "2s", "egress_id": "EG_2", "layout": "speaker", "url": "rtmp://h/b/k", "room_name": "s"}


def changes(message: Any, path: tuple[str, ...] = ()) -> Any:
    """(path, the same message with that field changed) of every field there is."""
    whole = message.SerializeToString()
    for field in message.DESCRIPTOR.fields:
        here = (*path, field.name)
        copy = type(message).FromString(whole)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(copy, field.name)["max_duration"] = "3h"
            yield here, copy
        elif field.message_type is not None:
            inner = getattr(copy, field.name)
            one = inner[0] if isinstance(field.default_value, list) else inner
            before = one.SerializeToString()
            for below, changed in changes(one, here):
                one.CopyFrom(changed)
                yield below, type(message).FromString(copy.SerializeToString())
                one.CopyFrom(type(one).FromString(before))
        elif isinstance(field.default_value, list):
            getattr(copy, field.name).append("rtmp://h/app/other")
            yield here, copy
        else:
            setattr(copy, field.name, True if field.type == field.TYPE_BOOL else OTHERS.get(field.name, "y"))
            yield here, copy


@pytest.mark.parametrize("call", CALLS)
async def test_every_field_does_something_or_is_refused(call: str) -> None:
    kind, fields, outcome = CALLS[call]
    newest = today.kind_of(str(kind.DESCRIPTOR.full_name))
    base = json_format.ParseDict(fields, newest())
    before = await outcome(today.in_wheel(base, kind))
    without_effect = []
    tried = 0
    for path, changed in changes(base):
        tried += 1
        try:
            if await outcome(today.in_wheel(changed, kind)) == before:
                without_effect.append(".".join(path))
        except EgressError:
            pass
    assert without_effect == []
    assert tried >= len(newest().DESCRIPTOR.fields)


async def test_a_stream_that_an_update_names_twice_is_meant_once() -> None:
    request = wire.UpdateStreamRequest(
        egress_id="EG_1",
        add_output_urls=["rtmp://h/a/k", "rtmp://h/a/k"],
        remove_output_urls=["rtmp://h/app/key", "rtmp://h/app/key"],
    )
    running, _ = await over_the_bus(EgressHandler.UPDATE_STREAM, request)
    add, remove = cast("tuple[tuple[StreamTarget, ...], tuple[str, ...]]", running.asked[-1])
    assert ([target.url for target in add], remove) == (["rtmp://h/a/k"], ("rtmp://h/app/key",))


async def test_no_list_has_pages() -> None:
    request = wire.ListEgressRequest()
    request.page_token.token = "second\n"
    for listed in (
        service(Kept(), MemoryBus()).list(request),
        OwnEgresses(RPCClient(MemoryBus()), lambda: ()).list(request),
    ):
        with pytest.raises(EgressError, match=r'page_token "second\\n": lists of this server have one page'):
            await listed


# --- fields that nobody knows


def asked_to_stop(*, as_json: bool) -> wire.StopEgressRequest:
    if as_json:
        body = json.dumps({"egress_id": "EG_1", "reason": "late"}).encode()
        return wire_json.parse(body, wire.StopEgressRequest)
    request = wire.StopEgressRequest(egress_id="EG_1")
    request.MergeFromString(bytes([0xC0, 0x3E, 1]))
    return request


@pytest.mark.parametrize(("as_json", "named"), [(True, "reason"), (False, "field 1000")])
async def test_of_a_stop_they_are_told_in_details_and_log(as_json: bool, named: str) -> None:
    """Whichever way it came: the API passes on what it read, and a livekit-server all that is binary."""
    with structlog.testing.capture_logs() as logged:
        running, answer = await over_the_bus(EgressHandler.STOP_EGRESS, asked_to_stop(as_json=as_json))
    assert "stop" in running.asked
    assert answer.details == f"End reason: StopEgress API; ignored, as not known here: {named}"
    assert {"egress_id": "EG_1", "notice": f"ignored, as not known here: {named}"}.items() <= logged[
        0
    ].items()


@pytest.mark.parametrize("as_json", [True, False])
async def test_of_a_stop_they_are_refused_or_ignored_as_configured(as_json: bool) -> None:
    request = asked_to_stop(as_json=as_json)
    with pytest.raises(EgressError, match="not known here") as refused:
        await over_the_bus(EgressHandler.STOP_EGRESS, request, UnknownFields.REFUSE)
    assert refused.value.code is Code.INVALID_ARGUMENT
    running, answer = await over_the_bus(EgressHandler.STOP_EGRESS, request, UnknownFields.IGNORE)
    assert "stop" in running.asked and answer.details == "End reason: StopEgress API"


async def test_names_that_somebody_made_up_do_not_fill_a_record() -> None:
    request = wire.StopEgressRequest(egress_id="EG_1")
    names = "\n".join([f"{number}\r{'x' * 10_000}" for number in range(50)])
    request.MergeFromString(length_delimited(CARRIER, names.encode()))
    _, answer = await over_the_bus(EgressHandler.STOP_EGRESS, request)
    assert "0?xxx" in answer.details and "\r" not in answer.details
    assert len(answer.details) < MAX_MESSAGE_CHARS
