"""Starts that fail on their way: what is undone, what is reported, and that none runs twice."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, UpdateStreamRequest
from livekit.protocol.egress import StartEgressRequest as EgressRequest

from openegress.api import wire_json
from openegress.core.codecs import Container
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError
from openegress.core.events import Active, Ended, EndReason, Paused
from openegress.core.live_state import LiveState
from openegress.core.looks import Looks
from openegress.core.part import Part
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import AudioRoute, FileOutput, MediaSource, Plan, WebSource
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc import Subscription
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler, EgressInternal
from openegress.request.context import Context
from openegress.request.naming import Distinct
from openegress.request.request_kind import RequestKind
from openegress.store.handovers import Claimed, HandoverOffer
from openegress.store.leases import MemoryLeases
from openegress.worker import start as starts
from openegress.worker.admission import Cost, Load
from openegress.worker.config import WorkerConfig, WorkerLeases
from openegress.worker.job import Job
from openegress.worker.load import LoadMeter
from openegress.worker.put_permits import OnNames
from openegress.worker.records import Record
from openegress.worker.service import WorkerService
from openegress.worker.supervisor import Supervisor
from openegress.worker.unreported import Unreported
from openegress.worker.worker_records import WorkerRecords

OUT = StoragePlan(LocalStorage("/out"))
START = replace(EgressInternal.START_EGRESS, timeout_s=1.0)


async def at_once(*_: Any) -> None:
    pass


async def never(*_: Any) -> None:
    await asyncio.Event().wait()


class Bus(MemoryBus):
    """Of which the named channels' subscriptions never come or are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.on_subscribe: dict[str, Callable[[], Awaitable[None]]] = {}

    async def subscribe_queue(self, channel: str) -> Subscription:
        for name, what in self.on_subscribe.items():
            if name in channel:
                await what()
        return await super().subscribe_queue(channel)

    def subscribed(self, name: str) -> bool:
        return any(name in channel for channel in (*self._queues, *self._broadcast))


class Records:
    """The record keeper."""

    def __init__(self) -> None:
        self.on_create: Callable[..., Awaitable[None]] = at_once
        self.created: list[str] = []
        self.updates: list[EgressInfo] = []

    async def create(self, info: EgressInfo) -> None:
        self.created.append(info.egress_id)
        await self.on_create()

    def doubt(self, egress_id: str) -> None:
        pass

    async def update(self, info: EgressInfo) -> None:
        self.updates.append(info)

    async def count(self, info: EgressInfo) -> None:
        pass


class Launches:
    """A supervisor that only notes what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.plans: list[Plan] = []

    def __iter__(self) -> Any:
        return iter(())

    def get(self, egress_id: str) -> Job | None:
        found = [record for record in self.records if record.info.egress_id == egress_id]
        plans = [plan for plan in self.plans if plan.egress_id == egress_id]
        return cast("Job", SimpleNamespace(record=found[0], plan=plans[0])) if found else None

    def launch(self, plan: Plan, kind: str, record: Record, claim_names: OnNames) -> None:
        self.records.append(record)
        self.plans.append(plan)

    def take_over(self, plan: Plan, kind: str, record: Record, claim_names: OnNames) -> None:
        self.launch(plan, kind, record, claim_names)


class Meter:
    def sample(self) -> Load:
        return Load(8, 0, 2**34, 2**34)


class World:
    def __init__(self, folder: Path) -> None:
        self.bus, self.leases, self.path_leases = Bus(), MemoryLeases(), MemoryLeases()
        self.client = RPCClient(self.bus)
        self.folder = folder
        self.records = Records()
        self.parts: list[Any] = []
        self.launches: list[Launches] = []

    async def worker(
        self,
        worker_id: str,
        same_path: Distinct = Distinct.UNNAMED,
        storage: StoragePlan = OUT,
    ) -> WorkerService:
        context = Context(now_ns=1, storage=storage, ws_url="", template_base="", make_token=None)
        launches, server = Launches(), RPCServer(self.bus, worker_id)
        costs = {kind: Cost(0.1, 1) for kind in RequestKind}
        service = WorkerService(
            WorkerConfig(lambda: context, costs, same_path=same_path),
            worker_id,
            server,
            WorkerRecords(cast("IOInfoClient", self.records), Unreported(self.folder / worker_id)),
            cast("Supervisor", launches),
            cast("LoadMeter", Meter()),
            WorkerLeases(self.leases, self.path_leases),
            on_start=lambda: None,
        )
        await service.open()
        self.launches.append(launches)
        self.parts += [service, server]
        return service

    async def start(self, egress_id: str = "EG_1", filepath: str = "") -> EgressInfo:
        request = StartEgressRequest(egress_id=egress_id)
        request.web.url = "http://e"
        request.web.file_outputs.add(filepath=filepath)
        return await self.client.call(START, request, retry=services_once)

    async def refused(self) -> EgressError:
        with pytest.raises(EgressError) as refused:
            await self.start()
        return refused.value

    @property
    def launched(self) -> int:
        return sum(len(each.records) for each in self.launches)

    async def close(self) -> None:
        for launches in self.launches:
            for record in launches.records:
                await record.close()
        for part in self.parts:
            await part.close()
        await self.client.close()
        await self.bus.close()


services_once = replace(EgressInternal.START_EGRESS.retry, attempts=1)


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(starts, "check_storage", at_once)
    world = World(tmp_path)
    yield world
    await world.close()


async def test_a_start_holds_its_lease(world: World) -> None:
    await world.worker("NE_1")
    assert (await world.start()).status == EgressStatus.EGRESS_STARTING
    assert world.launched == 1
    assert await world.leases.held() == {"EG_1"}
    assert world.bus.subscribed("StopEgress")


async def test_one_that_another_worker_is_at_is_not_started_twice(world: World) -> None:
    await world.worker("NE_1")
    await world.leases.hold("NE_2", ["EG_1"])
    refused = await world.refused()
    assert (refused.code, refused.message) == (Code.ALREADY_EXISTS, "egress already exists")
    assert world.launched == 0
    assert world.records.created == []
    assert await world.leases.held() == {"EG_1"}


async def test_a_bus_that_is_away_at_the_registration_leaves_nothing(world: World) -> None:
    async def away() -> None:
        raise EgressError(Code.UNAVAILABLE, "redis is not reachable")

    await world.worker("NE_1")
    world.bus.on_subscribe["UpdateStream"] = away
    assert (await world.refused()).code is Code.UNAVAILABLE
    assert (world.launched, world.records.created, world.records.updates) == (0, [], [])
    assert not world.bus.subscribed("StopEgress")
    assert not world.bus.subscribed("UpdateStream")
    assert await world.leases.held() == set()
    world.bus.on_subscribe.clear()
    await world.start()


@pytest.mark.parametrize("slow", ["storage", "bus"])
async def test_who_asked_may_turn_to_another_worker_when_nothing_was_created_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    await world.worker("NE_1")
    if slow == "storage":
        monkeypatch.setattr(starts, "check_storage", never)
    else:
        world.bus.on_subscribe["UpdateStream"] = lambda: never()
    begun_s = time.monotonic()
    refused = await world.refused()
    assert time.monotonic() - begun_s < 1.0  # it was told, rather than left to find out
    assert (refused.code, "nothing was started" in refused.message) == (Code.DEADLINE_EXCEEDED, True)
    assert (world.launched, world.records.created) == (0, [])
    assert await world.leases.held() == set()
    monkeypatch.setattr(starts, "check_storage", at_once)
    world.bus.on_subscribe.clear()
    await world.start()
    assert world.launched == 1


async def test_a_record_that_may_be_there_is_failed_and_its_egress_is_not_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await world.worker("NE_1")
    world.records.on_create = never
    refused = await world.refused()
    assert refused.code is Code.INTERNAL  # which no caller asks again
    await asyncio.sleep(0)
    (failed,) = world.records.updates
    assert (failed.status, failed.error) == (EgressStatus.EGRESS_FAILED, refused.message)
    assert not world.bus.subscribed("StopEgress")
    await worker.close()
    await world.worker("NE_2")
    world.records.on_create = at_once
    assert (await world.refused()).code is Code.ALREADY_EXISTS
    assert world.launched == 0


async def test_a_record_that_was_refused_leaves_nothing(world: World) -> None:
    async def away() -> None:
        raise EgressError(Code.UNAVAILABLE, "no response from servers")

    await world.worker("NE_1")
    world.records.on_create = away
    assert (await world.refused()).code is Code.UNAVAILABLE
    assert world.records.updates == []
    assert await world.leases.held() == set()
    assert not world.bus.subscribed("StopEgress")


def name_of(info: EgressInfo) -> str:
    return info.file_results[0].filename


async def test_a_path_that_another_recording_writes_to_is_refused(world: World) -> None:
    await world.worker("NE_1")
    await world.start("EG_1", "x.mp4")
    with pytest.raises(EgressError) as refused:
        await world.start("EG_2", "./x")
    assert refused.value.code is Code.ALREADY_EXISTS
    assert refused.value.message.startswith("another recording is writing to '/out/x.mp4'")
    assert await world.leases.held() == {"EG_1"}
    assert name_of(await world.start("EG_2", "y.mp4")) == "y.mp4"


async def test_a_path_that_another_recording_writes_to_gets_a_suffix_where_that_is_configured(
    world: World,
) -> None:
    await world.worker("NE_1", Distinct.ALL)
    assert name_of(await world.start("EG_1", "a/x.mp4")) == "a/x.mp4"
    assert name_of(await world.start("EG_2", "a/x.mp4")) == "a/x-EG_2.mp4"


async def test_names_of_our_own_are_never_shared(world: World) -> None:
    await world.worker("NE_1")
    names = [name_of(await world.start(egress_id)) for egress_id in ("EG_1", "EG_2")]
    assert names == ["web-1970-01-01T000000.mp4", "web-1970-01-01T000000-EG_2.mp4"]


async def test_a_path_is_free_again_once_its_egress_is_over(world: World) -> None:
    service = await world.worker("NE_1")
    await world.start("EG_1", "x.mp4")
    (launches,) = world.launches
    (record,) = launches.records
    record.apply(Ended(2, EndReason.API, "", ""))
    assert name_of(await world.start("EG_2", "x.mp4")) == "x.mp4"
    await service.forget(cast("Job", SimpleNamespace(plan=launches.plans[0])))
    with pytest.raises(EgressError, match="another recording"):
        await world.start("EG_3", "x.mp4")


async def test_a_failed_start_gives_its_path_up(world: World) -> None:
    async def away() -> None:
        raise EgressError(Code.UNAVAILABLE, "no response from servers")

    worker = await world.worker("NE_1")
    world.records.on_create = away
    with pytest.raises(EgressError):
        await world.start("EG_1", "x.mp4")
    assert worker.paths() == frozenset()


async def test_fields_that_only_todays_protocol_has_come_over_the_bus(world: World) -> None:
    await world.worker("NE_1")
    request = StartEgressRequest(egress_id="EG_1", room_name="r", token="t", ws_url="ws://h")
    fields = {
        "room_name": "r",
        "media": {
            "audio": {"capture_all": True, "routes": [{"participant_identity": "bob", "exclude": True}]}
        },
        "outputs": [{"file": {"filepath": "x.ogg"}}],
        "colour": "blue",
    }
    request.egress.CopyFrom(wire_json.parse(json.dumps(fields).encode(), EgressRequest))
    info = await world.client.call(START, request, retry=services_once)
    (plan,) = world.launches[0].plans
    assert isinstance(plan.source, MediaSource)
    assert plan.source.audio == (AudioRoute("participant", "bob", exclude=True), AudioRoute("all"))
    assert info.details == "ignored, as not known here: colour"


async def test_an_earlier_part_is_told_to_whoever_records_the_last(world: World) -> None:
    """Also while that is paused, until it has ended."""
    await world.worker("NE_1")
    await world.start(filepath="x.mp4")
    (launches,) = world.launches
    (record,) = launches.records
    for event in (Active(5), Paused(6)):
        record.apply(event)
    result = FileInfo(filename="earlier.mp4", location="/earlier.mp4", started_at=1)
    part = EgressInfo(egress_id="EG_1", file_results=[result])
    add = partial(world.client.call, EgressHandler.ADD_PART, part, topic="EG_1")
    with pytest.raises(EgressError) as refused:
        await add()
    assert refused.value.code is Code.UNAVAILABLE, "it has no earlier part"
    launches.plans[0] = msgspec.structs.replace(launches.plans[0], part=Part(1, 3))
    await add()
    assert [each.location for each in record.info.file_results] == ["/earlier.mp4", ""]
    record.apply(Ended(9, EndReason.API))
    with pytest.raises(EgressError) as refused:
        await add()
    assert refused.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(("backend", "is_refused"), [(LocalStorage("/there"), False), (S3Storage("b"), True)])
async def test_a_worker_without_a_disk_for_recordings_claims_none_that_is_on_one(
    world: World, backend: LocalStorage | S3Storage, is_refused: bool
) -> None:
    """Others, who can, would have to wait until its claim is over."""
    service = await world.worker("NE_1", storage=StoragePlan(backend))
    output = FileOutput("a.mp4", Container.MP4, StoragePlan(LocalStorage("/out")))
    plan = Plan("EG_2", WebSource("https://example.com"), (output,), None, None, resumes=True)
    refusal = service.refuses_part(plan)
    assert (refusal is not None and "the disk of another worker" in refusal.message) == is_refused


async def test_the_keeper_is_told_of_a_part_before_it_begins(world: World) -> None:
    """As of a later moment than what it knows: else it would not take it."""
    service = await world.worker("NE_1")
    output = FileOutput("a.mp4", Container.MP4, OUT)
    plan = Plan("EG_2", WebSource("https://example.com"), (output,), None, None, resumes=True)
    live = LiveState(3, 2, True, EndRules(max_size_bytes=7), Looks(text="Part 2"))
    result = FileInfo(filename="a.mp4", started_at=1)
    told_ns = time.time_ns() + 10**12  # by the clock of another machine
    info = EgressInfo(
        egress_id="EG_2",
        status=EgressStatus.EGRESS_ACTIVE,
        details="Paused",
        updated_at=told_ns,
        file_results=[result],
    )
    await service._take_over(Claimed(HandoverOffer(plan, live=live), 1, 5), info)
    async with asyncio.timeout(5):
        while not world.records.updates:  # noqa: ASYNC110 - it is told within a few turns
            await asyncio.sleep(0)
    (told,) = world.records.updates
    assert [each.filename for each in told.file_results] == ["a.mp4", "a-00002.mp4"]
    assert told.updated_at > told_ns
    (taken,) = world.launches[0].plans
    assert (taken.end_rules, taken.looks) == (live.end_rules, live.looks)
    assert taken.part == Part(1, 5, (), recorded_ns=4, pause=PauseMode.CUT)


async def test_fields_that_nobody_knows_are_refused_of_an_update_over_the_bus_too(world: World) -> None:
    await world.worker("NE_1")
    await world.start()
    update = UpdateStreamRequest(egress_id="EG_1", add_output_urls=["rtmp://h/app/key"])
    update.MergeFromString(bytes([0xC0, 0x3E, 1]))
    with pytest.raises(EgressError) as refused:
        await world.client.call(EgressHandler.UPDATE_STREAM, update, topic="EG_1")
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.message == "request has missing or invalid field: field 1000 (not known here)"
