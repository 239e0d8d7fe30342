"""Decisions of the janitor, with a clock of our own and leases in memory."""

from collections.abc import Collection

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, StreamInfo, StreamInfoList

from openegress.core.errors import Code, EgressError
from openegress.store.heartbeat import Heartbeat
from openegress.store.janitor import Janitor, died
from openegress.store.leases import LEASE_S, MemoryLeases

ACTIVE, COMPLETE, FAILED = (
    EgressStatus.EGRESS_ACTIVE,
    EgressStatus.EGRESS_COMPLETE,
    EgressStatus.EGRESS_FAILED,
)


class World:
    """A clock, records in a dictionary, leases, and a janitor over them."""

    def __init__(self, sees_records: bool = True) -> None:
        self.now_s = 1000.0
        self.records: dict[str, EgressInfo] = {}
        self.ended: list[str] = []
        self.away = False
        self.leases = MemoryLeases(lambda: self.now_s)
        self.janitor = self.new_janitor("NE_janitor", sees_records)

    def new_janitor(self, name: str, sees_records: bool = True) -> Janitor:
        active = self.active if sees_records else None
        return Janitor(self.leases, name, self.fetch, self.end, active, now_s=lambda: self.now_s)

    def add(self, egress_id: str, status: EgressStatus = ACTIVE) -> None:
        self.records[egress_id] = EgressInfo(egress_id=egress_id, status=status, updated_at=1)

    async def fetch(self, egress_id: str) -> EgressInfo | None:
        if self.away:
            raise EgressError(Code.UNAVAILABLE, "no response from servers")
        return self.records.get(egress_id)

    async def end(self, info: EgressInfo) -> None:
        self.records[info.egress_id] = info
        self.ended.append(info.egress_id)

    async def active(self) -> list[EgressInfo]:
        return [info for info in self.records.values() if info.status < COMPLETE]

    async def rounds(self, seconds: float, step_s: float = 5.0) -> None:
        for _ in range(int(seconds / step_s)):
            self.now_s += step_s
            await self.janitor.round()


async def test_a_worker_that_dies_is_noticed_within_a_minute_and_one_that_lives_is_left_alone() -> None:
    world = World()
    world.add("EG_dead")
    world.add("EG_alive")
    await world.rounds(LEASE_S)
    await world.leases.hold("NE_dead", ["EG_dead"])
    for _ in range(12):
        await world.leases.hold("NE_alive", ["EG_alive"])
        await world.rounds(5)
    assert world.ended == ["EG_dead"]
    record = world.records["EG_dead"]
    assert record.status == FAILED
    assert "worker NE_dead has not been heard of for 30 s" in record.error
    assert await world.leases.held() == {"EG_alive"}


async def test_a_record_without_a_lease_is_ended_after_its_time() -> None:
    world = World()
    world.add("EG_1")
    world.add("EG_2", COMPLETE)
    await world.rounds(LEASE_S)
    assert world.ended == []
    await world.rounds(5)
    assert world.ended == ["EG_1"]
    await world.rounds(60)
    assert world.ended == ["EG_1"]


async def test_behind_a_livekit_server_only_what_was_held_is_lost() -> None:
    world = World(sees_records=False)
    for egress_id in ("EG_of_another_kind_of_worker", "EG_ours"):
        world.add(egress_id)
    await world.leases.hold("NE_1", ["EG_ours", "EG_unknown"])
    await world.rounds(90)
    assert world.ended == ["EG_ours"]
    assert await world.leases.held() == set()


async def test_a_worker_that_comes_back_in_time_keeps_its_egress() -> None:
    world = World()
    world.add("EG_1")
    await world.rounds(LEASE_S)
    for _ in range(5):
        await world.leases.hold("NE_1", ["EG_1"])
        await world.rounds(25)
    assert world.ended == []


async def test_after_an_outage_workers_get_time_to_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add("EG_1")
    await world.rounds(LEASE_S)
    await world.leases.hold("NE_1", ["EG_1"])

    async def unreachable() -> list[object]:
        raise EgressError(Code.UNAVAILABLE, "redis is not reachable")

    with monkeypatch.context() as outage:
        outage.setattr(world.leases, "lost", unreachable)
        world.now_s += 300
        with pytest.raises(EgressError):
            await world.janitor.round()
    await world.rounds(10)
    await world.leases.hold("NE_1", ["EG_1"])
    await world.rounds(25)
    assert world.ended == []
    await world.rounds(10)
    assert world.ended == ["EG_1"]


async def test_one_of_two_janitors_settles_and_tries_again_when_records_were_away() -> None:
    world = World()
    world.add("EG_1")
    other = world.new_janitor("NE_other")
    await world.leases.hold("NE_1", ["EG_1"])
    await other.round()
    await world.rounds(LEASE_S)
    world.away = True
    world.now_s += 5
    with pytest.raises(EgressError):
        await world.janitor.round()
    await other.round()
    assert world.ended == []
    world.away = False
    world.now_s += 5
    await other.round()
    assert world.ended == []
    await world.janitor.round()
    assert world.ended == ["EG_1"]


async def test_old_records_are_purged_once_an_hour() -> None:
    world = World()
    purges: list[float] = []

    async def purge() -> int:
        purges.append(world.now_s)
        return 1

    world.janitor = Janitor(
        world.leases, "NE_1", world.fetch, world.end, world.active, purge, now_s=lambda: world.now_s
    )
    await world.rounds(3 * 3600, step_s=60)
    assert len(purges) == 3


async def test_a_heartbeat_holds_what_runs_and_releases_what_ran() -> None:
    world = World()
    running = {"EG_1", "EG_2"}
    heartbeat = Heartbeat(world.leases, "NE_1", lambda: running)
    await heartbeat.beat()
    assert await world.leases.held() == {"EG_1", "EG_2"}
    running.remove("EG_1")
    await heartbeat.beat()
    assert await world.leases.held() == {"EG_2"}


async def test_a_heartbeat_that_stood_still_asks_until_it_knows_what_became_of_its_egresses() -> None:
    world, answers = World(), [False, True]
    asked: list[list[str]] = []

    async def after_lapse(egress_ids: Collection[str]) -> None:
        asked.append(sorted(egress_ids))
        if not answers.pop(0):
            raise EgressError(Code.UNAVAILABLE, "not now")

    running = {"EG_1", "EG_2"}
    heartbeat = Heartbeat(world.leases, "NE_1", lambda: running, after_lapse, lambda: world.now_s)
    await heartbeat.beat()
    world.now_s += LEASE_S - 1
    assert heartbeat.is_late()
    await heartbeat.beat()
    assert asked == [] and not heartbeat.is_late()
    running.remove("EG_2")
    world.now_s += LEASE_S
    with pytest.raises(EgressError):
        await heartbeat.beat()
    world.now_s += 1
    await heartbeat.beat()
    await heartbeat.beat()
    assert asked == [["EG_1"], ["EG_1"]]


def test_a_death_says_what_is_known_and_keeps_what_was() -> None:
    active = StreamInfo(url="rtmp://a/{k...y}", status=StreamInfo.Status.ACTIVE)
    finished = StreamInfo(url="rtmp://b/{k...y}", status=StreamInfo.Status.FINISHED)
    info = EgressInfo(
        egress_id="EG_1", status=ACTIVE, updated_at=500, file_results=[FileInfo(filename="a.mp4")],
        stream_results=[active, finished], stream=StreamInfoList(info=[active]),
    )  # fmt: skip
    ended = died(info, "NE_1", 31.4, now_ns=400)
    assert info.status == ACTIVE
    assert (ended.status, ended.updated_at, ended.ended_at, ended.error_code) == (FAILED, 501, 501, 500)
    assert ended.error.startswith("worker NE_1 has not been heard of for 31 s")
    assert ended.details == "End reason: Failure"
    assert ended.file_results[0].filename == "a.mp4"
    assert [stream.status for stream in ended.stream_results] == [
        StreamInfo.Status.FAILED,
        StreamInfo.Status.FINISHED,
    ]
    assert ended.stream.info[0].status == StreamInfo.Status.FAILED
