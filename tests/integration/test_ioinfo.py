"""The IOInfo service as a worker and the API see it: over a bus, on a real store."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    FileInfo,
    ListEgressRequest,
    RoomCompositeEgressRequest,
)

from openegress.core.errors import Code, EgressError
from openegress.proto.egress_rpc_pb2 import GetEgressRequest, UpdateMetricsRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import IOInfo
from openegress.store import Change, Delivery
from openegress.store.ioinfo import IOInfoService
from openegress.store.sqlite import SqliteStore


@dataclass
class Ends:
    client: RPCClient
    service: IOInfoService


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    bus, store = MemoryBus(), SqliteStore(tmp_path / "egress.db")
    await store.open()
    server, client = RPCServer(bus), RPCClient(bus)
    service = IOInfoService(store)
    await service.register(server)
    yield Ends(client, service)
    await client.close()
    await server.close()
    await store.close()
    await bus.close()


async def test_records_over_the_bus(ends: Ends) -> None:
    told: list[tuple[str, int]] = []
    forget = ends.service.listen(lambda info: told.append((info.egress_id, info.status)))
    starting = EgressInfo(egress_id="EG_1", room_name="r", updated_at=1)
    active = EgressInfo(egress_id="EG_1", room_name="r", updated_at=2, status=EgressStatus.EGRESS_ACTIVE)
    for _ in range(2):
        await ends.client.call(IOInfo.CREATE_EGRESS, starting)
    await ends.client.call(IOInfo.UPDATE_EGRESS, active)
    await ends.client.call(IOInfo.CREATE_EGRESS, starting)
    assert await ends.client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id="EG_1")) == active
    assert told == [("EG_1", 0), ("EG_1", 1)]
    forget()
    for request, ids in (
        (ListEgressRequest(egress_id="EG_1", room_name="other"), ["EG_1"]),
        (ListEgressRequest(room_name="r", active=True), ["EG_1"]),
        (ListEgressRequest(room_name="other"), []),
    ):
        response = await ends.client.call(IOInfo.LIST_EGRESS, request)
        assert [item.egress_id for item in response.items] == ids
    await ends.client.call(IOInfo.UPDATE_METRICS, UpdateMetricsRequest(info=active, avg_cpu_usage=0.5))
    assert len(told) == 2


async def test_a_part_is_added_though_another_update_comes_between(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once only, as its worker asks again where the answer was lost."""
    known = EgressInfo(
        egress_id="EG_1",
        updated_at=1,
        status=EgressStatus.EGRESS_COMPLETE,
        file_results=[FileInfo(filename="a.mp4", started_at=1), FileInfo(filename="b.mp4", started_at=5)],
    )
    await ends.service.update(known)
    get, told = ends.service.get, list[EgressInfo]()

    async def is_overtaken(egress_id: str) -> EgressInfo:
        stored = await get(egress_id)
        if not told:
            ends.service.listen(told.append)
            later = EgressInfo()
            later.CopyFrom(stored)
            later.updated_at = time.time_ns() + 10**12
            later.file_results[1].location = "/b.mp4"
            await ends.service.update(later)
        return stored

    monkeypatch.setattr(ends.service, "get", is_overtaken)
    part = EgressInfo(
        egress_id="EG_1", file_results=[FileInfo(filename="a.mp4", started_at=1, location="/a.mp4")]
    )
    for _ in range(2):
        await ends.client.call(IOInfo.ADD_PART, part)
    stored = await ends.client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id="EG_1"))
    assert [each.location for each in stored.file_results] == ["/a.mp4", "/b.mp4"]
    assert len(told) == 2


async def test_a_worker_does_not_take_back_a_layout(ends: Ends) -> None:
    def info(layout: str, at: int, status: EgressStatus) -> EgressInfo:
        return EgressInfo(
            egress_id="EG_1",
            updated_at=at,
            status=status,
            room_composite=RoomCompositeEgressRequest(layout=layout),
        )

    await ends.client.call(IOInfo.CREATE_EGRESS, info("grid", 1, EgressStatus.EGRESS_STARTING))
    await ends.service.update(info("speaker", 2, EgressStatus.EGRESS_STARTING))  # as UpdateLayout does
    await ends.client.call(IOInfo.UPDATE_EGRESS, info("grid", 3, EgressStatus.EGRESS_ACTIVE))
    stored = await ends.service.get("EG_1")
    assert (stored.status, stored.room_composite.layout) == (EgressStatus.EGRESS_ACTIVE, "speaker")


async def test_an_ended_record_learns_of_its_files_and_of_nothing_else(ends: Ends) -> None:
    failed = EgressInfo(
        egress_id="EG_1", updated_at=5, ended_at=5, status=EgressStatus.EGRESS_FAILED, error="the worker died"
    )
    failed.file_results.add(filename="a.mp4")
    await ends.service.update(failed)
    found = EgressInfo(egress_id="EG_1", updated_at=9, ended_at=9, status=EgressStatus.EGRESS_COMPLETE)
    found.file_results.add(filename="a.mp4", location="/out/a.mp4", size=7)
    await ends.client.call(IOInfo.REVISE_EGRESS, found)
    stored = await ends.service.get("EG_1")
    assert (stored.status, stored.error, stored.ended_at) == (failed.status, "the worker died", 5)
    assert stored.file_results == found.file_results
    with pytest.raises(EgressError, match="egress does not exist"):
        await ends.client.call(IOInfo.REVISE_EGRESS, EgressInfo(egress_id="EG_9"))


@pytest.mark.parametrize("status", [EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_COMPLETE])
async def test_a_record_learns_of_a_part_that_is_not_its_last(ends: Ends, status: EgressStatus) -> None:
    known = EgressInfo(egress_id="EG_1", updated_at=5, status=status)
    known.file_results.add(filename="a.mp4", started_at=1)
    known.file_results.add(filename="a-00002.mp4", started_at=3)
    await ends.service.update(known)
    part = EgressInfo(egress_id="EG_1", updated_at=4, status=EgressStatus.EGRESS_FAILED, error="taken over")
    part.file_results.add(filename="a.mp4", started_at=1, location="/out/a.mp4", size=7)
    for _ in range(2):  # its worker may tell it twice
        await ends.client.call(IOInfo.ADD_PART, part)
    stored = await ends.service.get("EG_1")
    assert (stored.status, stored.error) == (status, "")
    assert [each.location for each in stored.file_results] == ["/out/a.mp4", ""]


@pytest.mark.parametrize(
    ("stored", "counted", "count"),
    [
        (EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_ACTIVE, 7),
        (EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_ENDING, 0),
        (EgressStatus.EGRESS_ENDING, EgressStatus.EGRESS_ACTIVE, 0),
        (EgressStatus.EGRESS_COMPLETE, EgressStatus.EGRESS_COMPLETE, 0),
    ],
)
async def test_what_is_counted_changes_no_status_and_is_announced_to_nobody(
    tmp_path: Path, stored: EgressStatus, counted: EgressStatus, count: int
) -> None:
    store = SqliteStore(tmp_path / "egress.db")
    await store.open()
    announced: list[EgressInfo] = []

    class Notes:
        @staticmethod
        def announce(_: Change, info: EgressInfo) -> list[Delivery]:
            announced.append(info)
            return []

        def wake(self) -> None:
            pass

    bus, service = MemoryBus(), IOInfoService(store, Notes())
    server, client = RPCServer(bus), RPCClient(bus)
    await service.register(server)
    shown: list[EgressInfo] = []
    try:
        info = EgressInfo(egress_id="EG_1", updated_at=1, status=stored)
        info.image_results.add(filename_prefix="i")
        await service.update(info)
        service.listen(shown.append)
        info.status, info.updated_at = counted, 2
        info.image_results[0].image_count = 7
        await client.call(IOInfo.COUNT_EGRESS, info)
        kept = await service.get("EG_1")
        assert (kept.status, kept.image_results[0].image_count) == (stored, count)
        assert len(announced) == 1
        assert len(shown) == (1 if count else 0), "the dashboard"
    finally:
        for each in (client, server, store, bus):
            await each.close()


async def test_a_list_is_read_once_until_a_record_changes(ends: Ends) -> None:
    await ends.service.update(EgressInfo(egress_id="EG_1", updated_at=1))
    first = await ends.service.list(ListEgressRequest())
    assert await ends.service.list(ListEgressRequest()) is first
    await ends.service.update(EgressInfo(egress_id="EG_2", updated_at=1))
    assert [one.egress_id for one in (await ends.service.list(ListEgressRequest())).items] == ["EG_1", "EG_2"]


async def test_unknown_and_nameless_egresses_are_refused(ends: Ends) -> None:
    with pytest.raises(EgressError, match=r"^egress does not exist$") as caught:
        await ends.client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id="EG_9"))
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(EgressError, match="egress does not exist"):
        await ends.client.call(IOInfo.LIST_EGRESS, ListEgressRequest(egress_id="EG_9"))
    with pytest.raises(EgressError, match="egressID") as caught:
        await ends.client.call(IOInfo.CREATE_EGRESS, EgressInfo())
    assert caught.value.code is Code.INVALID_ARGUMENT
